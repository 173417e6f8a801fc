/* covers: calls=clock_gettime,getrusage kind=forwarded; moves=away; breaks-when: the clock of the
   CPU time that the program used goes backwards, stands still while it computes, or counts time
   asleep */
#include <sys/resource.h>

#include "conform.h"

static int64_t used(void) {
  struct rusage usage;
  MUST(getrusage(RUSAGE_SELF, &usage));
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kSecond +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_time");
  const int64_t begin = now(CLOCK_MONOTONIC);
  int64_t last_clock = now(CLOCK_PROCESS_CPUTIME_ID), last_usage = used();
  conform_ready();
  while (conform_next()) {
    int64_t before = now(CLOCK_PROCESS_CPUTIME_ID);
    // Until it has itself seen 3 ms of its own CPU time.
    int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
    while (now(CLOCK_PROCESS_CPUTIME_ID) - before < 3 * kMs)
      CHECK(now(CLOCK_MONOTONIC) < give_up, "its CPU clock stands still");
    int64_t clock = now(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(seen(before >= last_clock) == 1, "the CPU clock went back by %lld us",
          (long long)(last_clock - before) / 1000);
    int64_t usage = used();
    CHECK(usage >= last_usage, "getrusage went back by %lld us",
          (long long)(last_usage - usage) / 1000);
    // What is used cannot be more than the time that went by.
    int64_t elapsed = now(CLOCK_MONOTONIC) - begin;
    CHECK(clock <= elapsed + 2 * kSecond && usage <= elapsed + 2 * kSecond, "too much");
    last_clock = clock;
    last_usage = usage;
  }
  CHECK(used() >= conform.rounds * 2 * kMs, "getrusage missed most of it");
  return conform_end();
}
