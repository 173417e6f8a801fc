/* covers: calls=timer_create,timer_settime,timer_gettime,timer_getoverrun,timer_delete
   kind=forwarded; breaks-when: a POSIX timer's signal has another value, comes early, or its
   overruns are lost */
#include "conform.h"

static volatile int signals;
static volatile int value, code;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++signals;
  value = info->si_value.sival_int;
  code = info->si_code;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_timer_posix");
  on_signal(SIGRTMIN + 1, handler, SA_RESTART);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  conform_ready();
  while (conform_next()) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGRTMIN + 1,
                             .sigev_value.sival_int = conform.round};
    MUST(timer_create(conform.round % 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME, &event, &timer));
    signals = 0;
    struct itimerspec once = {.it_value = spec_of(7 * kMs)}, left;
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &once, NULL));
    MUST(timer_gettime(timer, &left));
    CHECK(ns_of(left.it_value) <= 7 * kMs, "remaining time");
    while (signals == 0) {
      CHECK(now(CLOCK_MONOTONIC) - start < kLate, "no signal");
      pause_ms(1);
    }
    CHECK(now(CLOCK_MONOTONIC) - start >= 7 * kMs, "early");
    CHECK(seen(value) == conform.round && code == SI_TIMER && signals == 1, "value %d", value);

    // While it is blocked, expirations are counted.
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    struct itimerspec often = {.it_value = spec_of(2 * kMs), .it_interval = spec_of(2 * kMs)};
    start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &often, NULL));
    pause_ms(12);
    siginfo_t info;
    int signo;
    while ((signo = sigwaitinfo(&set, &info)) < 0 && errno == EINTR) {
    }
    CHECK(signo == SIGRTMIN + 1, "sigwaitinfo gave %d", signo);
    int missed = MUST(timer_getoverrun(timer));
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(missed >= 4 && missed <= took / (2 * kMs), "%d overruns", missed);
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == conform.round, "information");
    MUST(timer_delete(timer));
    struct timespec none = {0};
    while (sigtimedwait(&set, &info, &none) > 0) {
    }
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    MUST_FAIL(EINVAL, timer_gettime(timer, &left));
  }
  return conform_end();
}
