/* covers: calls=clock_gettime kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a
   clock goes backwards or jumps across a move, or the vDSO and the system call disagree */
#include "conform.h"

static int64_t by_call(clockid_t clock) {
  struct timespec t;
  MUST(syscall(SYS_clock_gettime, clock, &t));
  return ns_of(t);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "clock_order");
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME,
                              CLOCK_MONOTONIC_COARSE};
  enum { kClocks = 5 };
  int64_t last[kClocks];
  for (int i = 0; i < kClocks; ++i) last[i] = now(clocks[i]);
  int64_t ahead = now(CLOCK_BOOTTIME) - now(CLOCK_MONOTONIC);
  conform_ready();
  while (conform_next()) {
    for (int n = 0; n < 2000; ++n)
      for (int i = 0; i < kClocks; ++i) {
        // The wall clock may be set, and differs a little from node to node.
        int64_t slack = clocks[i] == CLOCK_REALTIME ? 50 * kMs : 0;
        int64_t value = n % 16 == 0 ? by_call(clocks[i]) : now(clocks[i]);
        CHECK(seen(value + slack >= last[i]) == 1, "clock %d went back by %lld ns", (int)clocks[i],
              (long long)(last[i] - value));
        CHECK(value - last[i] < kLate, "clock %d jumped by %lld ms", (int)clocks[i],
              (long long)(value - last[i]) / kMs);
        last[i] = value;
      }
    // The coarse clock is the fine one, a tick ago at most (and long ago if a move came between).
    int64_t coarse = now(CLOCK_MONOTONIC_COARSE), fine = now(CLOCK_MONOTONIC);
    CHECK(coarse <= fine && fine - coarse < kLate, "the coarse clock");
    int64_t before = now(CLOCK_MONOTONIC), boot = now(CLOCK_BOOTTIME), after = now(CLOCK_MONOTONIC);
    CHECK(boot - after <= ahead + kSecond && boot - before >= ahead - kSecond,
          "time since boot is ahead by %lld ms, not %lld", (long long)(boot - after) / kMs,
          (long long)ahead / kMs);
  }
  return conform_end();
}
