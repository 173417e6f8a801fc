/* covers: calls=rt_sigprocmask kind=local; calls=rt_sigpending,read kind=forwarded; breaks-when: a
   blocked signal is delivered, a pending one is lost or not delivered before the unblocking call
   returns */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

static void sender(int in, int out) {
  int64_t signo;
  while (receive_all(in, &signo, sizeof signo)) {
    kill(conform.pid, (int)signo);
    send_all(out, &signo, sizeof signo);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_procmask");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, 0);
  on_signal(SIGUSR2, handler, 0);
  sigset_t one, both, got;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  both = one;
  sigaddset(&both, SIGUSR2);
  conform_ready();
  while (conform_next()) {
    signals = 0;
    MUST(sigprocmask(SIG_BLOCK, &both, NULL));
    // Twice: a pending standard signal is pending once.
    ask(&helper, SIGUSR1);
    ask(&helper, SIGUSR1);
    MUST(raise(SIGUSR2));
    pause_ms(6);
    CHECK(seen(signals) == 0, "a blocked signal was delivered");
    MUST(sigpending(&got));
    CHECK(sigismember(&got, SIGUSR1) == 1 && sigismember(&got, SIGUSR2) == 1 &&
              sigismember(&got, SIGHUP) == 0,
          "pending signals");
    spin_ms(2);
    MUST(sigprocmask(SIG_UNBLOCK, &one, NULL));
    CHECK(signals == 1, "%d signals after unblocking one", signals);
    MUST(sigpending(&got));
    CHECK(sigismember(&got, SIGUSR1) == 0 && sigismember(&got, SIGUSR2) == 1, "the other pends");
    MUST(sigprocmask(SIG_BLOCK, NULL, &got));
    CHECK(sigismember(&got, SIGUSR1) == 0 && sigismember(&got, SIGUSR2) == 1, "the mask");
    // An ignored signal does not pend any more.
    if (conform.round % 2) {
      signal(SIGUSR2, SIG_IGN);
      on_signal(SIGUSR2, handler, 0);
      MUST(sigprocmask(SIG_UNBLOCK, &both, NULL));
      CHECK(signals == 1, "an ignored signal was delivered");
    } else {
      MUST(sigprocmask(SIG_UNBLOCK, &both, NULL));
      CHECK(signals == 2, "%d signals in the end", signals);
    }
    ask(&helper, SIGUSR2);
    for (int i = 0; i < 20000 && signals == (conform.round % 2 ? 1 : 2); ++i) pause_ms(1);
    CHECK(signals == (conform.round % 2 ? 2 : 3), "an unblocked signal");
  }
  return conform_end();
}
