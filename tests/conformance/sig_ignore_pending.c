/* covers: calls=getppid kind=forwarded; breaks-when: a signal that waits while a handler blocks it,
   and that the handler then begins to ignore, is handled after all, or shows in later calls */
#include "conform.h"

static volatile int first, second;

static void on_second(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++second;
}

// SIGUSR2 waits meanwhile: ignoring it takes it back.
static void on_first(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++first;
  CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR, "signal");
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_ignore_pending");
  pid_t parent = getppid();
  struct sigaction action = {.sa_sigaction = on_first, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR2);
  MUST(sigaction(SIGUSR1, &action, NULL));
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  conform_ready();
  while (conform_next()) {
    first = second = 0;
    on_signal(SIGUSR2, on_second, 0);
    MUST(sigprocmask(SIG_BLOCK, &both, NULL));
    MUST(kill(conform.pid, SIGUSR2));
    MUST(kill(conform.pid, SIGUSR1));
    // Both at once: the one that is taken first is in the handler of the lower number.
    MUST(sigprocmask(SIG_UNBLOCK, &both, NULL));
    CHECK(seen(first) == 1, "%d times the first", first);
    CHECK(second <= 1, "%d times the second", second);
    for (int i = 0; i < 5; ++i) CHECK(syscall(SYS_getppid) == parent, "getppid");
    on_signal(SIGUSR2, on_second, 0);
    int before = second;
    MUST(raise(SIGUSR2));
    CHECK(second == before + 1, "the next one did not come");
  }
  return conform_end();
}
