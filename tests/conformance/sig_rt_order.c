/* covers: calls=rt_sigqueueinfo kind=forwarded; breaks-when: queued real-time signals are lost,
   merged or delivered in another order than lowest number first, then first come first served */
#include "conform.h"

enum { kKinds = 4, kEach = 5 };

static volatile int got[kKinds * kEach];
static volatile int count;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  if (count < kKinds * kEach) got[count] = (signo - SIGRTMIN) * 100 + info->si_value.sival_int;
  ++count;
}

// Queues the numbers 0.. of one kind to the main process.
static void sender(int in, int out) {
  int64_t kind;
  while (receive_all(in, &kind, sizeof kind)) {
    for (int i = 0; i < kEach; ++i)
      sigqueue(conform.pid, SIGRTMIN + (int)kind, (union sigval){.sival_int = i});
    send_all(out, &kind, sizeof kind);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_rt_order");
  struct helper helper = conform_helper(sender);
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < kKinds; ++i) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    MUST(sigaction(SIGRTMIN + i, &action, NULL));
    sigaddset(&set, SIGRTMIN + i);
  }
  conform_ready();
  while (conform_next()) {
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    count = 0;
    // Kinds 3 and 1 from home, 2 and 0 by itself.
    ask(&helper, 3);
    for (int i = 0; i < kEach; ++i) {
      MUST(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i}));
      MUST(sigqueue(getpid(), SIGRTMIN + 0, (union sigval){.sival_int = i}));
    }
    ask(&helper, 1);
    pause_ms(5);
    CHECK(count == 0, "a blocked signal was delivered");
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    CHECK(seen(count) == kKinds * kEach, "%d signals", count);
    for (int i = 0; i < count; ++i)
      CHECK(got[i] == i / kEach * 100 + i % kEach, "signal %d is %d", i, got[i]);
  }
  return conform_end();
}
