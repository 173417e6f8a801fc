/* covers: calls=nanosleep,clock_nanosleep kind=forwarded; breaks-when: a sleep whose time left goes
   where its length stands, as that of sleep(3) does, ends early or late */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sleep_alias");
  conform_ready();
  while (conform_next()) {
    struct timespec time = spec_of(150 * kMs);
    int64_t start = now(CLOCK_MONOTONIC);
    int result = conform.round % 2 ? (int)syscall(SYS_nanosleep, &time, &time)
                                   : clock_nanosleep(CLOCK_BOOTTIME, 0, &time, &time);
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(result) == 0, "result %d", result);
    CHECK(took >= 150 * kMs && took < 150 * kMs + kLate, "it took %lld us", (long long)took / 1000);
  }
  return conform_end();
}
