/* covers: calls=prlimit64,clock_gettime kind=forwarded; moves=away; breaks-when: SIGXCPU
   does not come with every second that is used beyond the limit, or comes early */
#include <sys/resource.h>

#include "conform.h"

static volatile int signals, code;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++signals;
  code = info->si_code;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rlim_cpu");
  on_signal(SIGXCPU, handler, SA_RESTART);
  conform_ready();
  // The clock that the limit is by: it counts whole ticks.
  clockid_t ticks = (clockid_t)(~(unsigned)getpid() << 3);
  rlim_t first = 0;
  const int64_t each = 3000 * kMs / conform.rounds;
  int64_t last = 0;
  while (conform_next()) {
    struct rlimit limit;
    // By then it is away.
    if (conform.round == conform.rounds / 4 + 1) {
      first = (rlim_t)(now(ticks) / kSecond) + 1;
      limit = (struct rlimit){.rlim_cur = first, .rlim_max = RLIM_INFINITY};
      // Who may not raise it again has none above.
      if (setrlimit(RLIMIT_CPU, &limit) != 0) {
        limit.rlim_max = first + 3600;
        MUST(setrlimit(RLIMIT_CPU, &limit));
      }
    }
    if (first == 0) continue;
    int64_t end = now(ticks) + each;
    do {
      for (volatile int i = 0; i < 100000; ++i) {
      }
      last = now(ticks);
    } while (last < end);
    MUST(getrlimit(RLIMIT_CPU, &limit));
    CHECK(
        limit.rlim_cur == first + (rlim_t)signals || limit.rlim_cur == first + (rlim_t)signals + 1,
        "after %d signals the limit is %d, not %d", signals, (int)limit.rlim_cur,
        (int)first + signals);
    if (signals)
      CHECK(seen(last >= (int64_t)(first + (rlim_t)signals - 1) * kSecond) == 1,
            "%d signals after %lld ms", signals, (long long)(last / kMs));
  }
  int64_t due = last / kSecond - (int64_t)first + 1;
  CHECK(signals >= due - 1 && signals >= 1, "%d signals, %lld were due", signals, (long long)due);
  CHECK(code == SI_KERNEL, "from %d", code);
  return conform_end();
}
