/* covers: calls=kill,tgkill,tkill,clock_nanosleep kind=forwarded; breaks-when: a signal that the
   program sends itself is not handled before the call returns */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  CHECK(info->si_pid == conform.pid, "sender %d", info->si_pid);
  ++signals;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_self");
  on_signal(SIGUSR1, handler, 0);
  conform_ready();
  int expected = 0;
  while (conform_next()) {
    for (int n = 0; n < 20; ++n) {
      MUST(kill(getpid(), SIGUSR1));
      CHECK(seen(signals) == ++expected, "kill: %d instead of %d", signals, expected);
      MUST(raise(SIGUSR1));
      CHECK(signals == ++expected, "raise");
      MUST(syscall(SYS_tkill, gettid(), SIGUSR1));
      CHECK(signals == ++expected, "tkill");
      MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
      CHECK(signals == ++expected, "tgkill");
      MUST(kill(getpid(), 0));
      MUST_FAIL(EINVAL, kill(getpid(), 100));
    }
    printf("signals %d\n", signals);
  }
  return conform_end();
}
