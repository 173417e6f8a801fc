/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a sleep until a moment of a clock ends
   before that moment, or ages after it: the nodes' clocks since boot differ by minutes */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sleep_absolute");
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
  conform_ready();
  while (conform_next()) {
    for (int i = 0; i < 3; ++i) {
      int64_t end = now(clocks[i]) + (4 + (conform.round + i) % 5) * kMs;
      struct timespec until = spec_of(end);
      // Some CPU time between the reading and the sleep: the move may come here as well.
      if (conform.round % 3 == i) spin_ms(2);
      int result = clock_nanosleep(clocks[i], TIMER_ABSTIME, &until, NULL);
      int64_t after = now(clocks[i]);
      CHECK(seen(result) == 0, "result %d", result);
      // Two readings of the wall clock may be a little apart from node to node.
      int64_t slack = clocks[i] == CLOCK_REALTIME ? 50 * kMs : 0;
      CHECK(after >= end - slack, "clock %d: early by %lld us", (int)clocks[i],
            (long long)(end - after) / 1000);
      CHECK(after < end + kLate, "clock %d: late", (int)clocks[i]);
    }
    struct timespec past = spec_of(now(CLOCK_MONOTONIC) - kMs);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL) == 0, "in the past");
  }
  return conform_end();
}
