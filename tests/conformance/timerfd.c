/* covers: calls=timerfd_create,timerfd_settime,timerfd_gettime,read kind=forwarded; breaks-when: a
   timerfd, relative, absolute or periodic, fires early, far too late or another number of times */
#include <sys/timerfd.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "timerfd");
  int monotonic = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    uint64_t times = 0;
    struct itimerspec set = {.it_value = spec_of(9 * kMs)}, left;
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(timerfd_settime(monotonic, 0, &set, NULL));
    MUST(timerfd_gettime(monotonic, &left));
    CHECK(ns_of(left.it_value) <= 9 * kMs && ns_of(left.it_interval) == 0, "the rest");
    CHECK(read(monotonic, &times, sizeof times) == sizeof times, "read");
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen((long long)times) == 1, "it fired %llu times", (unsigned long long)times);
    CHECK(took >= 9 * kMs && took < kLate, "it took %lld us", (long long)took / 1000);

    clockid_t clock = conform.round % 3 == 0   ? CLOCK_REALTIME
                      : conform.round % 3 == 1 ? CLOCK_BOOTTIME
                                               : CLOCK_MONOTONIC;
    int fd = MUST(timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC));
    MUST_FAIL(EAGAIN, read(fd, &times, sizeof times));
    int64_t end = now(clock) + 7 * kMs;
    set = (struct itimerspec){.it_value = spec_of(end), .it_interval = spec_of(2 * kMs)};
    MUST(timerfd_settime(fd, TFD_TIMER_ABSTIME, &set, NULL));
    MUST(fcntl(fd, F_SETFL, 0));
    uint64_t sum = 0;
    while (sum < 4) {
      CHECK(read(fd, &times, sizeof times) == sizeof times && times > 0, "read");
      sum += times;
    }
    int64_t after = now(clock);
    // Fired once at `end` and once in each 2 ms since.
    CHECK(after >= end + ((int64_t)sum - 1) * 2 * kMs - (clock == CLOCK_REALTIME ? 50 * kMs : 0),
          "early on clock %d", clock);
    CHECK(after < end + 6 * kMs + kLate, "late on clock %d", clock);
    MUST(close(fd));
  }
  return conform_end();
}
