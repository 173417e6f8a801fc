// Waits with a limit of time for what never comes. Each gives 0 when its time is over.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#include "conform.h"

static struct { int pipe[2], epoll; } silent;

// Makes what they wait for: a pipe without a writer's word, and SIGUSR1, which is blocked.
static inline void waits_begin(void) {
  MUST(pipe(silent.pipe));
  silent.epoll = MUST(epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN};
  MUST(epoll_ctl(silent.epoll, EPOLL_CTL_ADD, silent.pipe[0], &event));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
}

static inline int by_poll(int ms) {
  struct pollfd fd = {.fd = silent.pipe[0], .events = POLLIN};
  return (int)syscall(SYS_poll, &fd, 1, ms);
}
static inline int by_ppoll(int ms) {
  struct pollfd fd = {.fd = silent.pipe[0], .events = POLLIN};
  struct timespec limit = spec_of(ms * kMs);
  return (int)syscall(SYS_ppoll, &fd, 1, &limit, NULL, 8);
}
static inline int by_epoll(int ms) {
  struct epoll_event event;
  return (int)syscall(SYS_epoll_wait, silent.epoll, &event, 1, ms);
}
static inline int by_epoll_to_the_ns(int ms) {
  enum { kEpollPwait2 = 441 };
  struct epoll_event event;
  struct timespec limit = spec_of(ms * kMs);
  return (int)syscall(kEpollPwait2, silent.epoll, &event, 1, &limit, NULL, 8);
}
static inline int by_signal(int ms) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  struct timespec limit = spec_of(ms * kMs);
  int result = sigtimedwait(&set, NULL, &limit);
  return result == -1 && errno == EAGAIN ? 0 : result;
}
static inline int by_select(int ms) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(silent.pipe[0], &set);
  struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  return (int)syscall(SYS_select, silent.pipe[0] + 1, &set, NULL, NULL, &limit);
}
static inline int by_pselect(int ms) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(silent.pipe[0], &set);
  struct timespec limit = spec_of(ms * kMs);
  return (int)syscall(SYS_pselect6, silent.pipe[0] + 1, &set, NULL, NULL, &limit, NULL);
}
static inline int by_sleep(int ms) {
  struct timespec length = spec_of(ms * kMs);
  return clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &length);
}

// Checks that a wait, the `which`th of the program's, lasts as long as it should, and not much
// longer.
static inline void check_wait(int (*wait)(int ms), int which, int ms) {
  enum { kLateMs = 1000 };
  int64_t start = now(CLOCK_MONOTONIC);
  int result = wait(ms);
  int64_t took = now(CLOCK_MONOTONIC) - start;
  CHECK(seen(result) == 0, "wait %d gave %d", which, result);
  CHECK(took >= ms * kMs, "wait %d ended after %lld ms", which, (long long)(took / kMs));
  CHECK(took < (ms + kLateMs) * kMs, "wait %d lasted %lld ms", which, (long long)(took / kMs));
}
