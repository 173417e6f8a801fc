/* covers: calls=timer_create,timer_settime,timer_getoverrun,timer_delete kind=forwarded;
   breaks-when: a timer whose signal is for one thread tells another one, comes early or not at all,
   or does not end that thread's call */
#include "threads.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { kThreads = 3, kLengthMs = 7 };

static atomic_int ids[kThreads], rung[kThreads], ended[kThreads], over;
static __thread int me = -1;
static atomic_int values[kThreads];

static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  CHECK(me >= 0 && info->si_code == SI_TIMER, "the main thread handles it");
  atomic_store(&values[me], info->si_value.sival_int);
  atomic_fetch_add(&rung[me], 1);
}

// Sleeps for long, over and over; nothing but its timer may end that.
static void* sleeper(void* argument) {
  me = (int)unboxed(argument);
  atomic_store(&ids[me], gettid());
  while (!atomic_load(&over)) {
    struct timespec length = spec_of(kLate), left = {0};
    int before = atomic_load(&rung[me]);
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &left);
    CHECK(seen(error) == EINTR, "the sleep of thread %d gave %d", me, error);
    CHECK(atomic_load(&rung[me]) > before, "it was not its timer");
    CHECK(ns_of(left) > 0 && ns_of(left) <= kLate, "the time left");
    atomic_fetch_add(&ended[me], 1);
  }
  return argument;
}

static timer_t make(int to, int value) {
  timer_t timer;
  struct sigevent event = {
      .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = value};
  event.sigev_notify_thread_id = atomic_load(&ids[to]);
  MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
  return timer;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_timer");
  on_signal(SIGRTMIN + 1, handler, 0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) threads[i] = thread_start(sleeper, boxed(i));
  for (int i = 0; i < kThreads; ++i) await_count(&ids[i], 1, "threads");
  conform_ready();
  struct itimerspec once = {.it_value = spec_of(kLengthMs * kMs)};
  while (conform_next()) {
    int to = conform.round % kThreads, before[kThreads];
    for (int i = 0; i < kThreads; ++i) before[i] = atomic_load(&rung[i]);
    timer_t timer = make(to, conform.round);
    int64_t start = now(CLOCK_MONOTONIC);
    MUST(timer_settime(timer, 0, &once, NULL));
    await_count(&rung[to], before[to] + 1, "its signal");
    CHECK(now(CLOCK_MONOTONIC) - start >= kLengthMs * kMs, "early");
    CHECK(seen(atomic_load(&values[to])) == conform.round, "value %d", atomic_load(&values[to]));
    CHECK(MUST(timer_getoverrun(timer)) == 0, "overruns");
    MUST(timer_delete(timer));
    for (int i = 0; i < kThreads; ++i)
      CHECK(atomic_load(&rung[i]) == before[i] + (i == to), "thread %d", i);
  }
  // The last: each one's, until it has seen that it is over.
  atomic_store(&over, 1);
  for (int i = 0; i < kThreads; ++i) {
    timer_t timer = make(i, 0);
    struct itimerspec often = {.it_value = spec_of(kMs), .it_interval = spec_of(20 * kMs)};
    MUST(timer_settime(timer, 0, &often, NULL));
    WORKS(pthread_join(threads[i], NULL));
    MUST(timer_delete(timer));
    CHECK(atomic_load(&ended[i]) > 0, "no sleep of thread %d was ended", i);
  }
  return conform_end();
}
