/* covers: calls=timer_create kind=either; breaks-when: a timer that expires faster than its signals
   can be told is waited for without end, leaves the program no time, or loses its value */
#include "conform.h"

static volatile int signals, value, strange;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++signals;
  value = info->si_value.sival_int;
  if (info->si_code != SI_TIMER || info->si_overrun < 0) ++strange;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_timer_storm");
  on_signal(SIGRTMIN + 2, handler, SA_RESTART);
  conform_ready();
  while (conform_next()) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGRTMIN + 2,
                             .sigev_value.sival_int = conform.round};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    signals = 0;
    const struct itimerspec storm = {.it_value = spec_of(kMs), .it_interval = spec_of(kMs / 100)};
    const struct itimerspec calm = {0};
    const int64_t start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &storm, NULL));
    // Busy: the signals come between instructions, and each unblocks the next one at its end.
    while (now(CLOCK_MONOTONIC) - start < 20 * kMs || signals == 0)
      CHECK(now(CLOCK_MONOTONIC) - start < kLate, "no signal");
    MUST(timer_settime(timer, 0, &calm, NULL));
    MUST(timer_delete(timer));
    pause_ms(5);
    CHECK(seen(value) == conform.round && strange == 0, "value %d", value);
    // What came before the end of the storm has been delivered: none of it comes now.
    const int before = signals;
    pause_ms(20);
    CHECK(signals == before, "%d signals after the end", signals - before);
  }
  return conform_end();
}
