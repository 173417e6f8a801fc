/* covers: calls=rt_sigsuspend,ppoll,pselect6 kind=forwarded; breaks-when: a signal that is open
   only inside sigsuspend, ppoll or pselect does not end it, arrives outside, or the mask is not put
   back */
#include <poll.h>
#include <sys/select.h>

#include "conform.h"

static volatile int signals;
static volatile bool inside;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  CHECK(inside, "the signal came outside the call");
  ++signals;
}

static void sender(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    send_all(out, &question, sizeof question);
    pause_ms((int)(question % 8));
    kill(conform.pid, SIGUSR1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_suspend");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, 0);
  sigset_t set, old, got;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, &old));
  conform_ready();
  while (conform_next()) {
    for (int call = 0; call < 3; ++call) {
      ask(&helper, conform.round + call);
      signals = 0;
      spin_ms(conform.round % 3);
      struct timespec long_time = spec_of(kLate);
      inside = true;
      int result = call == 0   ? sigsuspend(&old)
                   : call == 1 ? ppoll(NULL, 0, &long_time, &old)
                               : pselect(0, NULL, NULL, NULL, &long_time, &old);
      int error = errno;
      inside = false;
      CHECK(seen(result) == -1 && error == EINTR, "call %d gave %d, %d", call, result, error);
      CHECK(signals == 1, "%d signals in call %d", signals, call);
      MUST(sigprocmask(SIG_BLOCK, NULL, &got));
      CHECK(sigismember(&got, SIGUSR1) == 1, "the mask after call %d", call);
    }
  }
  return conform_end();
}
