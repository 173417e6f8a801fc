/* covers: calls=timer_create,timer_settime,timer_delete kind=forwarded; breaks-when: a timer by the
   CPU time of one thread expires for what another one uses, or tells another thread */
#include "threads.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { kThreads = 3, kLengthMs = 6 };

static atomic_int ids[kThreads], rung[kThreads], go[kThreads], over;
static __thread int me = -1;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  CHECK(me >= 0 && info->si_code == SI_TIMER, "the main thread handles it");
  CHECK(info->si_value.sival_int == me, "the timer of thread %d", info->si_value.sival_int);
  atomic_fetch_add(&rung[me], 1);
}

// Computes when it is its turn, until its timer rings. One that was made at home and one that is
// not: the first has its own clock by CLOCK_THREAD_CPUTIME_ID, the others by its id.
static void* worker(void* argument) {
  me = (int)unboxed(argument);
  clockid_t clock = CLOCK_THREAD_CPUTIME_ID;
  if (me > 0) WORKS(pthread_getcpuclockid(pthread_self(), &clock));
  struct sigevent event = {
      .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = me};
  event.sigev_notify_thread_id = gettid();
  timer_t timer;
  MUST(timer_create(clock, &event, &timer));
  atomic_store(&ids[me], gettid());
  while (!atomic_load(&over)) {
    if (!atomic_load(&go[me])) {
      pause_ms(1);
      continue;
    }
    if (conform.round % 3 == 0) {
      MUST(timer_delete(timer));
      MUST(timer_create(clock, &event, &timer));
    }
    int before = atomic_load(&rung[me]);
    struct itimerspec once = {.it_value = spec_of(kLengthMs * kMs)}, left;
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &once, NULL));
    while (atomic_load(&rung[me]) == before) {
      for (volatile int i = 0; i < 10000; ++i) {
      }
      CHECK(now(CLOCK_MONOTONIC) - start < kLate, "thread %d: no signal", me);
    }
    CHECK(now(CLOCK_MONOTONIC) - start >= kLengthMs * kMs, "thread %d: early", me);
    MUST(timer_gettime(timer, &left));
    CHECK(ns_of(left.it_value) == 0, "thread %d: it is still armed", me);
    atomic_store(&go[me], 0);
  }
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_timer_thread");
  on_signal(SIGRTMIN + 1, handler, SA_RESTART);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) threads[i] = thread_start(worker, boxed(i));
  for (int i = 0; i < kThreads; ++i) await_count(&ids[i], 1, "threads");
  conform_ready();
  while (conform_next()) {
    int before[kThreads], two = conform.round % 2, which = conform.round % kThreads;
    for (int i = 0; i < kThreads; ++i) before[i] = atomic_load(&rung[i]);
    for (int i = 0; i < kThreads; ++i) atomic_store(&go[i], i == which || (two && i == 0));
    int64_t end = now(CLOCK_MONOTONIC) + 2 * kLate;
    for (int i = 0; i < kThreads; ++i)
      while (atomic_load(&go[i])) {
        CHECK(now(CLOCK_MONOTONIC) < end, "thread %d does not come to an end", i);
        pause_ms(1);
      }
    for (int i = 0; i < kThreads; ++i)
      CHECK(seen(atomic_load(&rung[i])) == before[i] + (i == which || (two && i == 0)),
            "thread %d: %d signals", i, atomic_load(&rung[i]) - before[i]);
  }
  atomic_store(&over, 1);
  for (int i = 0; i < kThreads; ++i) WORKS(pthread_join(threads[i], NULL));
  return conform_end();
}
