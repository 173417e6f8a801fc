/* covers: calls=rt_sigsuspend,ppoll,pselect6,epoll_pwait,epoll_pwait2 kind=forwarded;
   breaks-when: a signal that is open only inside a call that waits under a mask of its own does not
   end it, arrives outside, or the mask is not put back */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "conform.h"

enum { kCalls = 5, kEpollPwait2 = 441 };

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

static int wait_by(int call, int epoll, const sigset_t* mask) {
  struct timespec long_time = spec_of(kLate);
  struct epoll_event event;
  switch (call) {
    case 0:
      return sigsuspend(mask);
    case 1:
      return ppoll(NULL, 0, &long_time, mask);
    case 2:
      return pselect(0, NULL, NULL, NULL, &long_time, mask);
    case 3:
      return epoll_pwait(epoll, &event, 1, (int)(kLate / kMs), mask);
    default:
      return (int)syscall(kEpollPwait2, epoll, &event, 1, &long_time, mask, 8);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_suspend");
  struct helper helper = conform_helper(sender);
  int epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  on_signal(SIGUSR1, handler, 0);
  sigset_t set, old, got;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, &old));
  conform_ready();
  while (conform_next()) {
    for (int call = 0; call < kCalls; ++call) {
      ask(&helper, conform.round + call);
      signals = 0;
      spin_ms(conform.round % 3);
      inside = true;
      int result = wait_by(call, epoll, &old);
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
