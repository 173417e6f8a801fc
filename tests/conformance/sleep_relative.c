/* covers: calls=nanosleep,clock_nanosleep kind=forwarded; breaks-when: a relative sleep ends early,
   far too late, or with an error, on any clock */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sleep_relative");
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
  conform_ready();
  while (conform_next()) {
    int64_t length = (4 + conform.round % 9) * kMs + conform.round;
    struct timespec sleep_for = spec_of(length);
    int64_t start = now(CLOCK_MONOTONIC);
    int result = conform.round % 4 == 0
                     ? (int)syscall(SYS_nanosleep, &sleep_for, NULL)
                     : clock_nanosleep(clocks[conform.round % 4 - 1], 0, &sleep_for, NULL);
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(result) == 0, "result %d", result);
    CHECK(took >= length, "early by %lld us", (long long)(length - took) / 1000);
    CHECK(took < length + kLate, "it took %lld ms", (long long)took / kMs);
    CHECK(usleep(1000) == 0, "usleep");
  }
  struct timespec bad = {.tv_nsec = kSecond};
  CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL) == EINVAL, "a bad time");
  return conform_end();
}
