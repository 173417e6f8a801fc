/* covers: calls=tgkill,read kind=forwarded; breaks-when: a signal for one thread, be it one of a
   crash, is handled in another one, ends a call of another one, or does not end the call of its own
 */
#include "threads.h"

enum { kThreads = 4 };

static int pipes[kThreads][2];
static atomic_int ids[kThreads], handled[kThreads], ended[kThreads], got[kThreads];
static __thread int me;
static __thread bool is_worker;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  CHECK(is_worker, "the main thread handles it");
  CHECK(gettid() == atomic_load(&ids[me]), "thread %d handles what is for %d", (int)gettid(),
        atomic_load(&ids[me]));
  CHECK(info->si_code == SI_TKILL && info->si_pid == conform.pid, "code %d", info->si_code);
  atomic_fetch_add(&handled[me], 1);
}

// Reads bytes of its pipe until the end of it.
static void* worker(void* argument) {
  me = (int)unboxed(argument);
  is_worker = true;
  atomic_store(&ids[me], gettid());
  for (unsigned char byte, expected = 0;;) {
    ssize_t n = read(pipes[me][0], &byte, 1);
    if (n == 0) return argument;
    if (n < 0) {
      CHECK(errno == EINTR, "read");
      CHECK(atomic_fetch_add(&ended[me], 1) < atomic_load(&handled[me]), "EINTR without a signal");
      continue;
    }
    CHECK(byte == expected, "byte %d, not %d", byte, expected);
    ++expected;
    atomic_fetch_add(&got[me], 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_kill");
  on_signal(SIGUSR1, handler, 0);
  on_signal(SIGSEGV, handler, 0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    MUST(pipe2(pipes[i], O_CLOEXEC));
    threads[i] = thread_start(worker, boxed(i));
  }
  for (int i = 0; i < kThreads; ++i) await_count(&ids[i], 1, "threads");
  conform_ready();
  int signals[kThreads] = {0}, bytes = 0;
  while (conform_next()) {
    for (int n = 0; n < 4; ++n) {
      int to = (conform.round + n) % kThreads;
      if (n % 2)
        MUST(syscall(SYS_tgkill, getpid(), atomic_load(&ids[to]), SIGUSR1));
      else
        WORKS(pthread_kill(threads[to], n ? SIGSEGV : SIGUSR1));
      await_count(&handled[to], ++signals[to], "signals");
    }
    for (int i = 0; i < kThreads; ++i) {
      CHECK(seen(atomic_load(&handled[i])) == signals[i], "thread %d handled %d, not %d", i,
            atomic_load(&handled[i]), signals[i]);
      // Every third round: mostly they are blocked in their reads.
      unsigned char byte = (unsigned char)bytes;
      if (conform.round % 3 == 0) CHECK(write(pipes[i][1], &byte, 1) == 1, "write");
    }
    if (conform.round % 3 == 0) ++bytes;
    for (int i = 0; i < kThreads; ++i) await_count(&got[i], bytes, "bytes");
  }
  int all = 0;
  for (int i = 0; i < kThreads; ++i) {
    MUST(close(pipes[i][1]));
    WORKS(pthread_join(threads[i], NULL));
    all += atomic_load(&ended[i]);
  }
  CHECK(all > 0, "no call was ended by a signal");
  return conform_end();
}
