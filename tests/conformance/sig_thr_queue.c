/* covers: calls=rt_tgsigqueueinfo kind=forwarded; breaks-when: real-time signals that are queued to
   a thread, by home or by another thread, are lost, merged, handled in another thread or in another
   order than lowest number first, then first come first served */
#include "threads.h"

enum { kThreads = 3, kKinds = 3, kEach = 4, kAll = kKinds * kEach };

static struct helper home;
static pthread_t threads[kThreads];
static atomic_int ids[kThreads], opened, done;
static __thread volatile int count, got[kAll];

static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  // So that moves find those that wait for its end, too.
  if (count % 4 == 0) pause_ms(2);
  if (count < kAll) got[count] = (signo - SIGRTMIN) * 100000 + info->si_value.sival_int;
  ++count;
}

// Queues its values to a thread of the main process: kind 1 of them all.
static void sender(int in, int out) {
  int64_t thread;
  while (receive_all(in, &thread, sizeof thread)) {
    for (int i = 0; i < kEach; ++i) {
      siginfo_t info = {.si_signo = SIGRTMIN + 1, .si_code = SI_QUEUE};
      info.si_pid = getpid();
      info.si_uid = getuid();
      info.si_value.sival_int = (int)(thread % 100) * 100 + i;
      if (syscall(SYS_rt_tgsigqueueinfo, conform.pid, thread / 100, SIGRTMIN + 1, &info) != 0)
        thread = -1;
    }
    send_all(out, &thread, sizeof thread);
  }
}

static void* worker(void* argument) {
  int me = (int)unboxed(argument);
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < kKinds; ++i) sigaddset(&set, SIGRTMIN + i);
  atomic_store(&ids[me], gettid());
  for (int turn = 1;; ++turn) {
    await_count(&opened, turn, "turns");
    if (atomic_load(&opened) == INT_MAX) return argument;
    CHECK(count == 0, "a blocked signal was handled");
    WORKS(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
    WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
    CHECK(seen(count) == kAll, "%d signals in thread %d", count, me);
    for (int i = 0; i < kAll; ++i)
      CHECK(got[i] == i / kEach * 100000 + me * 100 + i % kEach, "signal %d of thread %d is %d", i,
            me, got[i]);
    count = 0;
    atomic_fetch_add(&done, 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_queue");
  home = conform_helper(sender);
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < kKinds; ++i) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    MUST(sigaction(SIGRTMIN + i, &action, NULL));
    sigaddset(&set, SIGRTMIN + i);
  }
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (int i = 0; i < kThreads; ++i) threads[i] = thread_start(worker, boxed(i));
  for (int i = 0; i < kThreads; ++i) await_count(&ids[i], 1, "threads");
  conform_ready();
  while (conform_next()) {
    for (int i = 0; i < kEach; ++i)
      for (int to = 0; to < kThreads; ++to) {
        union sigval value = {.sival_int = to * 100 + i};
        WORKS(pthread_sigqueue(threads[to], SIGRTMIN + 2, value));
        WORKS(pthread_sigqueue(threads[to], SIGRTMIN, value));
      }
    for (int to = 0; to < kThreads; ++to) {
      int64_t question = atomic_load(&ids[to]) * 100LL + to;
      CHECK(ask(&home, question) == question, "home cannot send to thread %d", to);
    }
    pause_ms(4);
    atomic_store(&opened, conform.round);
    await_count(&done, conform.round * kThreads, "threads that are done");
  }
  atomic_store(&opened, INT_MAX);
  for (int i = 0; i < kThreads; ++i) WORKS(pthread_join(threads[i], NULL));
  return conform_end();
}
