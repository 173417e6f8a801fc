/* covers: calls=read,write kind=forwarded; breaks-when: the
   program's clocks are not those of a process that stayed at home */
#include "conform.h"

static void teller(int in, int out) {
  int64_t clock;
  while (receive_all(in, &clock, sizeof clock)) {
    clock = now((clockid_t)clock);
    send_all(out, &clock, sizeof clock);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "clock_home");
  struct helper helper = conform_helper(teller);
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
  conform_ready();
  while (conform_next()) {
    for (int i = 0; i < 3; ++i) {
      int64_t before = now(clocks[i]);
      int64_t home = ask(&helper, clocks[i]);
      int64_t after = now(clocks[i]);
      // Home's reading lies between the program's two. The offsets are exact to microseconds; a
      // move adds what it cannot measure.
      int64_t slack = 50 * kMs;
      CHECK(seen(home + slack >= before) == 1, "clock %d is ahead by %lld us", (int)clocks[i],
            (long long)(before - home) / 1000);
      CHECK(home - slack <= after, "clock %d is behind by %lld us", (int)clocks[i],
            (long long)(home - after) / 1000);
    }
  }
  return conform_end();
}
