/* covers: calls=clock_getres,gettimeofday,time kind=local; calls=clock_nanosleep kind=forwarded;
   breaks-when: resolutions change, or time() and gettimeofday() are not the wall clock */
#include <sys/time.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "clock_misc");
  const clockid_t clocks[] = {CLOCK_REALTIME,         CLOCK_MONOTONIC,
                              CLOCK_BOOTTIME,         CLOCK_MONOTONIC_RAW,
                              CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID};
  struct timespec first[6];
  for (int i = 0; i < 6; ++i) MUST(clock_getres(clocks[i], &first[i]));
  conform_ready();
  while (conform_next()) {
    for (int i = 0; i < 6; ++i) {
      struct timespec resolution;
      MUST(conform.round % 2 ? clock_getres(clocks[i], &resolution)
                             : syscall(SYS_clock_getres, clocks[i], &resolution));
      CHECK(seen(ns_of(resolution)) == ns_of(first[i]), "resolution of clock %d", (int)clocks[i]);
    }
    const int64_t slack = 50 * kMs;
    int64_t before = now(CLOCK_REALTIME);
    struct timeval day;
    if (conform.round % 2)
      MUST(gettimeofday(&day, NULL));
    else
      MUST(syscall(SYS_gettimeofday, &day, NULL));
    time_t seconds = conform.round % 2 ? time(NULL) : (time_t)syscall(SYS_time, NULL);
    int64_t after = now(CLOCK_REALTIME);
    int64_t middle = day.tv_sec * kSecond + day.tv_usec * 1000;
    CHECK(middle + slack >= before && middle - slack <= after, "gettimeofday");
    // time() is the coarse clock, up to a tick behind.
    CHECK(seconds >= (before - slack) / kSecond && seconds <= (after + slack) / kSecond, "time");
    MUST_FAIL(EINVAL, syscall(SYS_clock_gettime, 77, &first[0]));
  }
  return conform_end();
}
