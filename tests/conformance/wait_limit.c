/* covers: calls=poll,epoll_wait,epoll_pwait2,rt_sigtimedwait,select,ppoll,pselect6 kind=forwarded;
   breaks-when: a wait with a limit of time ends early, or begins anew with every move */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#include "conform.h"

// Longer than the moves are apart: a wait that each of them made begin anew would hardly end.
enum { kLimitMs = 600, kLateMs = 1000, kEpollPwait2 = 441 };

static int the_pipe[2], the_epoll;

static int by_poll(void) {
  struct pollfd fd = {.fd = the_pipe[0], .events = POLLIN};
  return (int)syscall(SYS_poll, &fd, 1, kLimitMs);
}
static int by_epoll(void) {
  struct epoll_event event;
  return (int)syscall(SYS_epoll_wait, the_epoll, &event, 1, kLimitMs);
}
static int by_epoll_to_the_ns(void) {
  struct epoll_event event;
  struct timespec limit = spec_of(kLimitMs * kMs);
  return (int)syscall(kEpollPwait2, the_epoll, &event, 1, &limit, NULL, 8);
}
static int by_signal(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  struct timespec limit = spec_of(kLimitMs * kMs);
  int result = sigtimedwait(&set, NULL, &limit);
  return result == -1 && errno == EAGAIN ? 0 : result;
}
static int by_select(void) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(the_pipe[0], &set);
  struct timeval limit = {.tv_usec = kLimitMs * 1000};
  return (int)syscall(SYS_select, the_pipe[0] + 1, &set, NULL, NULL, &limit);
}
static int by_ppoll(void) {
  struct pollfd fd = {.fd = the_pipe[0], .events = POLLIN};
  struct timespec limit = spec_of(kLimitMs * kMs);
  return (int)syscall(SYS_ppoll, &fd, 1, &limit, NULL, 8);
}
static int by_pselect(void) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(the_pipe[0], &set);
  struct timespec limit = spec_of(kLimitMs * kMs);
  return (int)syscall(SYS_pselect6, the_pipe[0] + 1, &set, NULL, NULL, &limit, NULL);
}

static int (*const kWaits[])(void) = {by_poll,   by_epoll, by_epoll_to_the_ns, by_signal,
                                      by_select, by_ppoll, by_pselect};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "wait_limit");
  MUST(pipe(the_pipe));
  the_epoll = MUST(epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN};
  MUST(epoll_ctl(the_epoll, EPOLL_CTL_ADD, the_pipe[0], &event));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  conform_ready();
  while (conform_next()) {
    if (conform.round % 4 != 0) continue;
    int which = conform.round / 4 % kKinds;
    int64_t start = now(CLOCK_MONOTONIC);
    int result = kWaits[which]();
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(result) == 0, "wait %d gave %d", which, result);
    CHECK(took >= kLimitMs * kMs, "wait %d ended after %lld ms", which, (long long)(took / kMs));
    CHECK(took < (kLimitMs + kLateMs) * kMs, "wait %d lasted %lld ms", which,
          (long long)(took / kMs));
  }
  return conform_end();
}
