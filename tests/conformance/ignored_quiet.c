/* covers: calls=poll,ppoll,epoll_wait,epoll_pwait2,rt_sigtimedwait,clock_nanosleep,write
   kind=forwarded; breaks-when: a signal that the program ignores ends a call, cuts a write short,
   or makes a wait begin anew */
#include <poll.h>
#include <sys/epoll.h>

#include "conform.h"

// Longer than the signals are apart: a wait that each of them made begin anew would not end.
enum { kLimitMs = 150, kSignalEveryMs = 20, kLateMs = 1000, kChunk = 200000, kEpollPwait2 = 441 };

static void sender(int in, int out) {
  (void)out;
  int64_t question;
  receive_all(in, &question, sizeof question);
  for (;;) {
    pause_ms(kSignalEveryMs);
    kill(conform.pid, SIGCHLD);
    kill(conform.pid, SIGUSR2);
  }
}

static void reader(int in, int out) {
  static char part[kChunk / 10];
  int64_t done = 0;
  for (;;) {
    pause_ms(8);
    if (!receive_all(in, part, sizeof part)) return;
    done += sizeof part;
    if (done % kChunk == 0 && !send_all(out, &done, sizeof done)) return;
  }
}

static int the_pipe[2], the_epoll;

static int by_poll(void) {
  struct pollfd fd = {.fd = the_pipe[0], .events = POLLIN};
  return poll(&fd, 1, kLimitMs);
}
static int by_ppoll(void) {
  struct pollfd fd = {.fd = the_pipe[0], .events = POLLIN};
  struct timespec limit = spec_of(kLimitMs * kMs);
  return ppoll(&fd, 1, &limit, NULL);
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
static int by_sleep(void) {
  struct timespec length = spec_of(kLimitMs * kMs);
  return clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &length);
}

static int (*const kWaits[])(void) = {by_poll,   by_ppoll, by_epoll, by_epoll_to_the_ns,
                                      by_signal, by_sleep};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "ignored_quiet");
  struct helper slow_reader = conform_helper(reader);
  struct helper sending = conform_helper(sender);
  MUST(pipe(the_pipe));
  the_epoll = MUST(epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN};
  MUST(epoll_ctl(the_epoll, EPOLL_CTL_ADD, the_pipe[0], &event));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR, "signal");
  int64_t start_now = 1;
  CHECK(send_all(sending.to, &start_now, sizeof start_now), "the sender");
  static char chunk[kChunk];
  conform_ready();
  for (int64_t chunks = 1; conform_next();) {
    if (conform.round % 2 == 0) {
      int which = conform.round / 2 % kKinds;
      int64_t start = now(CLOCK_MONOTONIC);
      int result = kWaits[which]();
      int64_t took = now(CLOCK_MONOTONIC) - start;
      CHECK(seen(result) == 0, "wait %d gave %d", which, result);
      CHECK(took >= kLimitMs * kMs, "wait %d ended after %lld ms", which, (long long)(took / kMs));
      CHECK(took < (kLimitMs + kLateMs) * kMs, "wait %d lasted %lld ms", which,
            (long long)(took / kMs));
      continue;
    }
    ssize_t written = write(slow_reader.to, chunk, kChunk);
    CHECK(seen(written) == kChunk, "%zd bytes were written", written);
    int64_t done;
    CHECK(receive_all(slow_reader.from, &done, sizeof done) && done == chunks++ * kChunk,
          "the reader");
  }
  return conform_end();
}
