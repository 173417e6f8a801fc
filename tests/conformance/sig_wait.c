/* covers: calls=rt_sigtimedwait kind=forwarded; breaks-when: a signal from home is not returned by
   sigwaitinfo or sigtimedwait, or they time out early */
#include "conform.h"

static void sender(int in, int out) {
  int64_t value;
  while (receive_all(in, &value, sizeof value)) {
    pause_ms((int)(value % 8));
    sigqueue(conform.pid, SIGRTMIN + 3, (union sigval){.sival_int = (int)value});
    send_all(out, &value, sizeof value);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_wait");
  struct helper helper = conform_helper(sender);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  conform_ready();
  while (conform_next()) {
    int64_t value = conform.round;
    CHECK(send_all(helper.to, &value, sizeof value), "the helper is gone");
    siginfo_t info;
    int signo;
    // A stop may end this wait early even at home (signal(7)); see eintr_quiet.c.
    do {
      struct timespec timeout = spec_of(kLate);
      signo = conform.round % 2 ? sigwaitinfo(&set, &info) : sigtimedwait(&set, &info, &timeout);
    } while (signo < 0 && errno == EINTR);
    CHECK(signo == SIGRTMIN + 3 && info.si_pid == helper.pid, "signal %d", signo);
    CHECK(seen(info.si_value.sival_int) == conform.round, "value %d", info.si_value.sival_int);
    CHECK(receive_all(helper.from, &value, sizeof value), "the helper is gone");
    struct timespec none = {0};
    MUST_FAIL(EAGAIN, sigtimedwait(&set, &info, &none));
    MUST(raise(SIGUSR1));
    CHECK(sigtimedwait(&set, &info, &none) == SIGUSR1, "a raised signal");
  }
  return conform_end();
}
