/* covers: calls=timer_settime,timer_gettime,clock_gettime kind=forwarded; moves=away;
   breaks-when: a timer by CPU time does not expire when its clock says so */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_timer_clock");
  on_signal(SIGRTMIN + 2, handler, SA_RESTART);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
  struct sigevent silent = {.sigev_notify = SIGEV_NONE};
  timer_t timer, quiet;
  MUST(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
  MUST(timer_create(CLOCK_THREAD_CPUTIME_ID, &silent, &quiet));
  conform_ready();
  while (conform_next()) {
    int64_t length = (5 + conform.round % 7) * kMs;
    int64_t start = now(CLOCK_PROCESS_CPUTIME_ID);
    struct itimerspec set = {.it_value = spec_of(length)}, left;
    bool absolute = conform.round % 2;
    if (absolute) set.it_value = spec_of(start + length);
    signals = 0;
    MUST(timer_settime(timer, absolute ? TIMER_ABSTIME : 0, &set, NULL));
    // What is left and what is used are what was set.
    MUST(timer_gettime(timer, &left));
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID) - start;
    if (signals == 0)
      CHECK(ns_of(left.it_value) + used >= length, "left %lld us, used %lld us",
            (long long)ns_of(left.it_value) / 1000, (long long)used / 1000);
    int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
    while (signals == 0) {
      for (volatile int i = 0; i < 10000; ++i) {
      }
      CHECK(now(CLOCK_MONOTONIC) < give_up, "no signal");
    }
    used = now(CLOCK_PROCESS_CPUTIME_ID) - start;
    CHECK(seen(used >= length) == 1, "early: after %lld us", (long long)used / 1000);
    CHECK(used < length + 2 * kSecond, "late: after %lld us", (long long)used / 1000);

    // One that tells nobody: it can be asked.
    start = now(CLOCK_THREAD_CPUTIME_ID);
    set = (struct itimerspec){.it_value = spec_of(4 * kMs), .it_interval = spec_of(kSecond)};
    MUST(timer_settime(quiet, 0, &set, NULL));
    spin_ms(2);
    MUST(timer_gettime(quiet, &left));
    used = now(CLOCK_THREAD_CPUTIME_ID) - start;
    if (used < 4 * kMs)
      CHECK(ns_of(left.it_value) <= 4 * kMs && ns_of(left.it_value) >= 4 * kMs - used,
            "of a silent one are left %lld us", (long long)ns_of(left.it_value) / 1000);
    while (now(CLOCK_THREAD_CPUTIME_ID) - start < 5 * kMs)
      for (volatile int i = 0; i < 10000; ++i) {
      }
    MUST(timer_gettime(quiet, &left));
    CHECK(ns_of(left.it_value) > 4 * kMs && ns_of(left.it_value) <= kSecond, "its next round");
    CHECK(signals == 1, "%d signals", signals);
  }
  return conform_end();
}
