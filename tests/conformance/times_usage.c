/* covers: calls=times,getrusage kind=forwarded; moves=away; breaks-when: what times or getrusage
   tells goes backwards, or misses what was used, or the ticks since boot are not those of home */
#include <sys/resource.h>
#include <sys/times.h>

#include "conform.h"

static int64_t used(void) {
  struct rusage usage;
  MUST(getrusage(RUSAGE_SELF, &usage));
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kSecond +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "times_usage");
  const int64_t begin = now(CLOCK_MONOTONIC);
  const int64_t tick = kSecond / MUST(sysconf(_SC_CLK_TCK));
  const int64_t first_usage = used();
  int64_t last_usage = first_usage;
  struct tms last_times;
  clock_t last_ticks = times(&last_times);
  conform_ready();
  while (conform_next()) {
    spin_ms(2);
    int64_t usage = used();
    CHECK(seen(usage >= last_usage) == 1, "getrusage went back by %lld us",
          (long long)(last_usage - usage) / 1000);
    // What is used cannot be more than the time that went by.
    CHECK(usage <= now(CLOCK_MONOTONIC) - begin + 2 * kSecond, "too much");
    struct tms t;
    clock_t ticks = times(&t);
    CHECK(ticks >= last_ticks && (ticks - last_ticks) * tick < kLate, "times' clock");
    CHECK(t.tms_utime >= last_times.tms_utime && t.tms_stime >= last_times.tms_stime,
          "times went back");
    CHECK(t.tms_cutime == 0 && t.tms_cstime == 0, "children");
    // As long as nobody else has the CPU, it has it: how much, a loaded machine decides.
    CHECK(usage - first_usage >= conform.round * 100000, "%lld us in %d rounds",
          (long long)(usage - first_usage) / 1000, conform.round);
    last_usage = usage;
    last_times = t;
    last_ticks = ticks;
  }
  return conform_end();
}
