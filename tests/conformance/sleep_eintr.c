/* covers: calls=clock_nanosleep,setitimer kind=forwarded; breaks-when: a sleep that a signal
   interrupts does not return EINTR, or its remaining time is wrong */
#include <sys/time.h>

#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sleep_eintr");
  on_signal(SIGALRM, handler, 0);
  conform_ready();
  while (conform_next()) {
    // Repeating, in case the first comes before the sleep begins.
    struct itimerval timer = {.it_value.tv_usec = 9000, .it_interval.tv_usec = 30000}, off = {0};
    const int64_t length = 100 * kSecond;
    struct timespec sleep_for = spec_of(length), left = {0};
    signals = 0;
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(setitimer(ITIMER_REAL, &timer, NULL));
    int result = clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep_for, &left);
    int64_t took = now(CLOCK_MONOTONIC) - start;
    MUST(setitimer(ITIMER_REAL, &off, NULL));
    CHECK(seen(result) == EINTR, "result %d", result);
    CHECK(signals >= 1, "no handler ran");
    CHECK(took >= 9 * kMs && took < 9 * kMs + kLate, "it took %lld us", (long long)took / 1000);
    CHECK(ns_of(left) <= length && ns_of(left) >= length - took, "remaining %lld us",
          (long long)ns_of(left) / 1000);
    // An absolute one leaves no remaining time, and is simply repeated.
    struct timespec until = spec_of(now(CLOCK_MONOTONIC) + 15 * kMs);
    MUST(setitimer(ITIMER_REAL, &timer, NULL));
    while ((result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) == EINTR) {
    }
    MUST(setitimer(ITIMER_REAL, &off, NULL));
    CHECK(result == 0 && now(CLOCK_MONOTONIC) >= ns_of(until), "absolute");
  }
  return conform_end();
}
