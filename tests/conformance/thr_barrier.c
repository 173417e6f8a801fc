/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; breaks-when: a thread
   passes a barrier before all have come, one stays in it, or not exactly one of them is told that
   it was the last */
#include "threads.h"

enum { kThreads = 8, kPasses = 12 };

static pthread_barrier_t barrier;
static atomic_int arrived[kThreads], chosen;

static void meet(void) {
  int given = pthread_barrier_wait(&barrier);
  CHECK(given == 0 || given == PTHREAD_BARRIER_SERIAL_THREAD, "the barrier gave %d", given);
  if (given == PTHREAD_BARRIER_SERIAL_THREAD) atomic_fetch_add(&chosen, 1);
}

static void part(int who, int round) {
  for (int i = 1; i <= kPasses; ++i) {
    int pass = (round - 1) * kPasses + i;
    // One is later than the others, which wait for it.
    if (i % kThreads == who) pause_ms(1);
    atomic_store(&arrived[who], pass);
    meet();
    for (int other = 0; other < kThreads; ++other)
      CHECK(seen(atomic_load(&arrived[other])) == pass, "thread %d is at %d, not %d", other,
            atomic_load(&arrived[other]), pass);
    meet();
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_barrier");
  WORKS(pthread_barrier_init(&barrier, NULL, kThreads));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    CHECK(seen(atomic_load(&chosen)) == conform.round * kPasses * 2, "%d were the last",
          atomic_load(&chosen));
  }
  crew_end();
  WORKS(pthread_barrier_destroy(&barrier));
  return conform_end();
}
