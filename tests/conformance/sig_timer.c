/* covers: calls=setitimer,getitimer,alarm,pause kind=forwarded; breaks-when: SIGALRM comes early,
   far too late, more than once or not at all, or its remaining time is wrong */
#include <sys/time.h>

#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_timer");
  on_signal(SIGALRM, handler, 0);
  sigset_t alarm_set, old;
  sigemptyset(&alarm_set);
  sigaddset(&alarm_set, SIGALRM);
  conform_ready();
  while (conform_next()) {
    signals = 0;
    struct itimerval timer = {.it_value.tv_usec = 9000}, left;
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(setitimer(ITIMER_REAL, &timer, NULL));
    MUST(getitimer(ITIMER_REAL, &left));
    CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_usec <= 9000, "remaining time");
    if (conform.round % 2) {
      while (signals == 0) CHECK(now(CLOCK_MONOTONIC) - start < kLate, "no signal while computing");
    } else {
      // Blocked but for the wait, or it might come just before it.
      MUST(sigprocmask(SIG_BLOCK, &alarm_set, &old));
      while (signals == 0) MUST_FAIL(EINTR, sigsuspend(&old));
      MUST(sigprocmask(SIG_SETMASK, &old, NULL));
    }
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(signals) == 1, "%d signals", signals);
    CHECK(took >= 9 * kMs && took < kLate, "it took %lld us", (long long)took / 1000);

    // Periodic, and pause() that each ends.
    timer = (struct itimerval){.it_value.tv_usec = 4000, .it_interval.tv_usec = 4000};
    MUST(setitimer(ITIMER_REAL, &timer, NULL));
    for (int i = 0; i < 2; ++i) MUST_FAIL(EINTR, pause());
    timer = (struct itimerval){0};
    MUST(setitimer(ITIMER_REAL, &timer, &left));
    CHECK(left.it_interval.tv_usec == 4000, "its period");
    CHECK(signals >= 3, "%d signals", signals);
    CHECK(alarm(100) == 0, "alarm");
    unsigned rest = alarm(0);
    CHECK(rest > 70 && rest <= 100, "alarm left %u", rest);
  }
  return conform_end();
}
