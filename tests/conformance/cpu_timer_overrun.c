/* covers: calls=timer_settime,timer_getoverrun,rt_sigtimedwait kind=forwarded; moves=away;
   breaks-when: what a timer by CPU time expires while its signal is pending is not counted, or what
   it expires afterwards is */
#include <sys/signalfd.h>

#include "conform.h"

enum { kPeriodMs = 3 };

static volatile int handled, missed;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++handled;
  missed = info->si_overrun;
}

static void compute_ms(int ms) {
  int64_t end = now(CLOCK_PROCESS_CPUTIME_ID) + ms * kMs;
  while (now(CLOCK_PROCESS_CPUTIME_ID) < end)
    for (volatile int i = 0; i < 10000; ++i) {
    }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_timer_overrun");
  on_signal(SIGRTMIN + 3, handler, SA_RESTART);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  int fd = MUST(signalfd(-1, &set, SFD_CLOEXEC));
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
  MUST(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
  conform_ready();
  while (conform_next()) {
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    handled = 0;
    struct itimerspec often = {.it_value = spec_of(kPeriodMs * kMs),
                               .it_interval = spec_of(kPeriodMs * kMs)},
                      none = {0};
    int64_t start = now(CLOCK_PROCESS_CPUTIME_ID);
    MUST(timer_settime(timer, 0, &often, NULL));
    CHECK(MUST(timer_getoverrun(timer)) == 0, "overruns of the last time");
    int periods = 4 + conform.round % 5;
    compute_ms(periods * kPeriodMs + 6);
    // Taken in three ways.
    int told, way = conform.round % 3;
    if (way == 0) {
      siginfo_t info;
      int signo;
      while ((signo = sigwaitinfo(&set, &info)) < 0 && errno == EINTR) {
      }
      CHECK(signo == SIGRTMIN + 3 && info.si_code == SI_TIMER, "sigwaitinfo gave %d", signo);
      told = info.si_overrun;
    } else if (way == 1) {
      struct signalfd_siginfo info;
      CHECK(MUST(read(fd, &info, sizeof info)) == sizeof info, "signalfd");
      CHECK((int)info.ssi_signo == SIGRTMIN + 3 && info.ssi_code == SI_TIMER, "signalfd");
      told = (int)info.ssi_overrun;
    } else {
      MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
      int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
      while (handled == 0) CHECK(now(CLOCK_MONOTONIC) < give_up, "no signal");
      MUST(sigprocmask(SIG_BLOCK, &set, NULL));
      told = missed;
    }
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID) - start;
    CHECK(told >= periods - 1, "way %d: %d overruns in %d periods", way, told, periods);
    CHECK(seen(told <= used / (kPeriodMs * kMs)) == 1, "way %d: %d overruns in %lld us", way, told,
          (long long)used / 1000);
    if (handled < 2) {
      int asked = MUST(timer_getoverrun(timer));
      CHECK(asked == told || handled > 1, "way %d: told %d, asked %d", way, told, asked);
    }
    MUST(timer_settime(timer, 0, &none, NULL));
    // What came in the meantime.
    siginfo_t info;
    struct timespec at_once = {0};
    while (sigtimedwait(&set, &info, &at_once) > 0) {
    }
    CHECK(MUST(timer_getoverrun(timer)) == 0, "overruns of one that is disarmed");
  }
  return conform_end();
}
