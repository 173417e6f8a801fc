/* covers: calls=clock_gettime,getrusage kind=forwarded; moves=away; breaks-when: a thread's CPU
   clock goes back, stands still while it computes, or counts what another thread uses */
#include <sys/resource.h>

#include "threads.h"

enum { kThreads = 3 };

static _Atomic int64_t used_by[kThreads];

static int64_t usage_of(int who) {
  struct rusage usage;
  MUST(getrusage((__rusage_who_t)who, &usage));
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kSecond +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

// The first computes, the others look on.
static void part(int who, int round) {
  (void)round;
  static __thread int64_t last_clock, last_usage;
  int64_t before = now(CLOCK_THREAD_CPUTIME_ID);
  CHECK(seen(before >= last_clock) == 1, "thread %d: its clock went back by %lld us", who,
        (long long)(last_clock - before) / 1000);
  int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
  if (who == 0) {
    do {
      for (volatile int i = 0; i < 20000; ++i) {
      }
      CHECK(now(CLOCK_MONOTONIC) < give_up, "its clock stands still");
    } while (now(CLOCK_THREAD_CPUTIME_ID) - before < 4 * kMs);
  }
  last_clock = now(CLOCK_THREAD_CPUTIME_ID);
  CHECK(last_clock >= before, "thread %d: back within a round", who);
  int64_t usage = usage_of(RUSAGE_THREAD);
  CHECK(usage >= last_usage, "getrusage of thread %d went back", who);
  // Not the same clock, but of the same time: both at 0 when it began.
  CHECK(usage <= last_clock + kSecond, "getrusage of thread %d: %lld ms, its clock %lld ms", who,
        (long long)(usage / kMs), (long long)(last_clock / kMs));
  last_usage = usage;
  atomic_store(&used_by[who], last_clock);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_thread");
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    int64_t sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += atomic_load(&used_by[i]);
    int64_t all = now(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(all >= sum, "the process has used %lld us, its threads %lld us", (long long)all / 1000,
          (long long)sum / 1000);
  }
  int64_t computed = atomic_load(&used_by[0]);
  CHECK(computed >= conform.rounds * 4 * kMs, "it computed for more than %lld us",
        (long long)computed / 1000);
  for (int i = 1; i < kThreads; ++i)
    CHECK(atomic_load(&used_by[i]) < computed, "thread %d only looked on", i);
  CHECK(usage_of(RUSAGE_SELF) >= computed, "of all threads");
  crew_end();
  return conform_end();
}
