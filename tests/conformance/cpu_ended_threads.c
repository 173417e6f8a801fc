/* covers: calls=clock_gettime,times kind=forwarded; moves=away; breaks-when: what a thread has used
   that has ended does not count for its process, in its CPU clock, getrusage or times */
#include <sys/resource.h>
#include <sys/times.h>

#include "threads.h"

enum { kBurnMs = 5 };

static void* burn(void* argument) {
  while (now(CLOCK_THREAD_CPUTIME_ID) < kBurnMs * kMs)
    for (volatile int i = 0; i < 20000; ++i) {
    }
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_ended_threads");
  const int64_t tick = kSecond / MUST(sysconf(_SC_CLK_TCK));
  int64_t first = now(CLOCK_PROCESS_CPUTIME_ID), mine = now(CLOCK_THREAD_CPUTIME_ID), last = first;
  conform_ready();
  while (conform_next()) {
    pthread_t thread = thread_start(burn, NULL);
    WORKS(pthread_join(thread, NULL));
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(seen(used >= last + kBurnMs * kMs) == 1, "only %lld us more",
          (long long)(used - last) / 1000);
    CHECK(used - first >= conform.round * kBurnMs * kMs, "all of them: %lld us",
          (long long)(used - first) / 1000);
    last = used;
    struct rusage usage;
    MUST(getrusage(RUSAGE_SELF, &usage));
    int64_t shown = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kSecond +
                    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
    CHECK(shown + 10000 >= used, "getrusage: %lld us", (long long)shown / 1000);
    struct tms t;
    MUST(times(&t));
    CHECK((t.tms_utime + t.tms_stime + 4) * tick >= used, "times: %lld", (long long)t.tms_utime);
  }
  // It has looked on, but for making them.
  CHECK(now(CLOCK_THREAD_CPUTIME_ID) - mine < last - first, "they did it, not the first");
  return conform_end();
}
