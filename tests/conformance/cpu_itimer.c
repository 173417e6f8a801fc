/* covers: calls=setitimer,getitimer kind=forwarded; breaks-when: ITIMER_PROF or ITIMER_VIRTUAL
   expires early, far too late, more than once, not at all, or without being computed for */
#include <sys/time.h>

#include "conform.h"

enum { kValueMs = 9, kPeriodMs = 5 };

static volatile int signals, other_signals, code;
static int expected;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  if (signo == expected)
    ++signals;
  else
    ++other_signals;
  code = info->si_code;
}

static int64_t us_of(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

// Computes until there have been so many signals.
static void compute_until(int count) {
  int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
  while (signals < count) {
    for (volatile int i = 0; i < 10000; ++i) {
    }
    CHECK(now(CLOCK_MONOTONIC) < give_up, "no signal while computing: %d of %d", signals, count);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_itimer");
  on_signal(SIGPROF, handler, SA_RESTART);
  on_signal(SIGVTALRM, handler, SA_RESTART);
  conform_ready();
  while (conform_next()) {
    bool prof = conform.round % 2;
    __itimer_which_t which = prof ? ITIMER_PROF : ITIMER_VIRTUAL;
    expected = prof ? SIGPROF : SIGVTALRM;
    signals = other_signals = 0;
    struct itimerval once = {.it_value.tv_usec = kValueMs * 1000}, left, none = {0};
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(setitimer(which, &once, NULL));
    MUST(getitimer(which, &left));
    // The kernel adds a tick.
    CHECK(us_of(left.it_value) > 0 && us_of(left.it_value) <= kValueMs * 1000 + 10000, "left %lld",
          (long long)us_of(left.it_value));
    CHECK(us_of(left.it_interval) == 0, "no interval was set");
    // What sleeps uses nothing.
    if (conform.round % 4 == 0) {
      int before = signals;
      pause_ms(2 * kValueMs);
      CHECK(signals == before, "it expired asleep");
    }
    compute_until(1);
    CHECK(now(CLOCK_MONOTONIC) - start >= kValueMs * kMs, "early");
    CHECK(code == SI_KERNEL, "from %d", code);
    MUST(getitimer(which, &left));
    CHECK(us_of(left.it_value) == 0, "it is still armed");

    // Periodic.
    struct itimerval often = {.it_value.tv_usec = kPeriodMs * 1000,
                              .it_interval.tv_usec = kPeriodMs * 1000};
    start = now(CLOCK_MONOTONIC);
    MUST(setitimer(which, &often, &left));
    CHECK(us_of(left.it_value) == 0 && us_of(left.it_interval) == 0, "what was set before");
    compute_until(4);
    CHECK(now(CLOCK_MONOTONIC) - start >= 3 * kPeriodMs * kMs, "early: %d signals in %lld us",
          signals, (long long)(now(CLOCK_MONOTONIC) - start) / 1000);
    MUST(setitimer(which, &none, &left));
    CHECK(us_of(left.it_interval) == kPeriodMs * 1000, "its period");
    CHECK(us_of(left.it_value) > 0 && us_of(left.it_value) <= kPeriodMs * 1000 + 10000, "its rest");
    int before = signals;
    spin_ms(3);
    CHECK(seen(signals) == before, "a signal of a timer that is disarmed");
    CHECK(other_signals == 0, "the other one's signal");

    struct itimerval wrong = {.it_value.tv_usec = 1000000};
    MUST_FAIL(EINVAL, setitimer(which, &wrong, NULL));
    MUST_FAIL(EINVAL, syscall(SYS_setitimer, 7, &none, NULL));
    MUST_FAIL(EFAULT, syscall(SYS_setitimer, which, (void*)1, NULL));
    MUST_FAIL(EFAULT, syscall(SYS_getitimer, which, (void*)1));
  }
  return conform_end();
}
