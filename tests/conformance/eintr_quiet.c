/* covers: calls=epoll_wait,rt_sigtimedwait kind=forwarded; breaks-when: a move, with no signal for
   the program anywhere, shows as EINTR in one of the calls that a stop interrupts without restart
 */
#include <sys/epoll.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "eintr_quiet");
  int idle[2];
  MUST(pipe2(idle, O_CLOEXEC));
  int epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event in = {.events = EPOLLIN};
  MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, idle[0], &in));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  conform_ready();
  while (conform_next()) {
    struct epoll_event event;
    int64_t start = now(CLOCK_MONOTONIC);
    CHECK(seen(epoll_wait(epoll, &event, 1, 20)) == 0, "epoll_wait");
    CHECK(now(CLOCK_MONOTONIC) - start >= 20 * kMs, "epoll_wait came back early");
    struct timespec timeout = spec_of(20 * kMs);
    start = now(CLOCK_MONOTONIC);
    MUST_FAIL(EAGAIN, sigtimedwait(&set, NULL, &timeout));
    CHECK(now(CLOCK_MONOTONIC) - start >= 20 * kMs, "sigtimedwait came back early");
  }
  return conform_end();
}
