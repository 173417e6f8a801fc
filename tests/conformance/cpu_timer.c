/* covers: calls=timer_create,timer_settime,timer_gettime,timer_getoverrun,timer_delete
   kind=forwarded; breaks-when: a timer by the CPU time of the process expires early, far too late,
   more than once or not at all, or is not what was set */
#include "conform.h"

enum { kValueMs = 8 };

static volatile int signals, value, code;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++signals;
  value = info->si_value.sival_int;
  code = info->si_code;
}

static void compute_until(int count) {
  int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
  while (signals < count) {
    for (volatile int i = 0; i < 10000; ++i) {
    }
    CHECK(now(CLOCK_MONOTONIC) < give_up, "no signal while computing: %d of %d", signals, count);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_timer");
  on_signal(SIGRTMIN + 2, handler, SA_RESTART);
  clockid_t by_id;
  CHECK(clock_getcpuclockid(0, &by_id) == 0, "the clock of the process");
  timer_t lasting;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
  MUST(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &lasting));
  conform_ready();
  while (conform_next()) {
    // One that was made at home, and one that is made wherever it is.
    timer_t timer = lasting;
    event.sigev_value.sival_int = conform.round;
    if (conform.round % 2)
      MUST(timer_create(conform.round % 4 == 1 ? CLOCK_PROCESS_CPUTIME_ID : by_id, &event, &timer));
    signals = 0;
    struct itimerspec once = {.it_value = spec_of(kValueMs * kMs)}, left, none = {0};
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &once, NULL));
    MUST(timer_gettime(timer, &left));
    CHECK(ns_of(left.it_value) <= kValueMs * kMs, "left %lld", (long long)ns_of(left.it_value));
    CHECK(ns_of(left.it_interval) == 0, "no interval was set");
    compute_until(1);
    CHECK(now(CLOCK_MONOTONIC) - start >= kValueMs * kMs, "early");
    CHECK(code == SI_TIMER, "from %d", code);
    CHECK(seen(value) == (conform.round % 2 ? conform.round : 0), "value %d", value);
    CHECK(MUST(timer_getoverrun(timer)) == 0, "overruns");
    MUST(timer_gettime(timer, &left));
    CHECK(ns_of(left.it_value) == 0, "it is still armed");

    // Periodic; each signal, or those that were too fast for it, tells of an interval.
    struct itimerspec often = {.it_value = spec_of(6 * kMs), .it_interval = spec_of(6 * kMs)};
    start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &often, &left));
    CHECK(ns_of(left.it_value) == 0 && ns_of(left.it_interval) == 0, "what was set before");
    compute_until(4);
    CHECK(now(CLOCK_MONOTONIC) - start >= 18 * kMs, "early: %d signals", signals);
    MUST(timer_settime(timer, 0, &none, &left));
    CHECK(ns_of(left.it_interval) == 6 * kMs, "its period");
    CHECK(ns_of(left.it_value) > 0 && ns_of(left.it_value) <= 6 * kMs, "its rest");
    int before = signals;
    spin_ms(2);
    CHECK(signals == before, "a signal of a timer that is disarmed");

    // A moment that is past.
    struct itimerspec past = {.it_value = spec_of(1)};
    signals = 0;
    MUST(timer_settime(timer, TIMER_ABSTIME, &past, NULL));
    compute_until(1);
    CHECK(signals == 1, "%d signals", signals);
    struct itimerspec wrong = {.it_value.tv_nsec = 1000000000};
    MUST_FAIL(EINVAL, timer_settime(timer, 0, &wrong, NULL));
    if (timer == lasting) continue;
    MUST(timer_delete(timer));
    MUST_FAIL(EINVAL, timer_gettime(timer, &left));
  }
  return conform_end();
}
