/* covers: calls=sched_yield kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: threads
   that meet in memory alone do not see each other's stores, or an atomic addition is lost */
#include "threads.h"

enum { kThreads = 4, kLoops = 20000, kSpins = 2000, kBalls = 100 };

static atomic_int ticket, serving, ball;
static atomic_ulong sum, changed;
static unsigned long guarded;

static void spin(int* spins) {
  if (++*spins % kSpins == 0) sched_yield();
}

static void part(int who, int round) {
  int spins = 0;
  for (int i = 0; i < kLoops; ++i) {
    atomic_fetch_add(&sum, (unsigned long)(who + 1));
    unsigned long old = atomic_load(&changed);
    while (!atomic_compare_exchange_weak(&changed, &old, old * 5 + 1)) {
    }
  }
  // A lock that nobody sleeps for.
  for (int i = 0; i < 10; ++i) {
    int mine = atomic_fetch_add(&ticket, 1);
    while (atomic_load(&serving) != mine) spin(&spins);
    ++guarded;
    atomic_fetch_add(&serving, 1);
  }
  // A ball between the first two.
  for (int i = 0; who < 2 && i < kBalls; ++i) {
    int mine = (round - 1) * 2 * kBalls + 2 * i + who;
    while (atomic_load(&ball) != mine) spin(&spins);
    atomic_store(&ball, mine + 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_atomic");
  crew_start(kThreads, part);
  conform_ready();
  unsigned long expected = 0;
  while (conform_next()) {
    crew_round();
    unsigned long of_sum = (unsigned long)conform.round * kLoops * (kThreads * (kThreads + 1) / 2);
    CHECK((unsigned long)seen((long long)atomic_load(&sum)) == of_sum, "the sum");
    for (int i = 0; i < kLoops * kThreads; ++i) expected = expected * 5 + 1;
    CHECK(atomic_load(&changed) == expected, "an exchange");
    CHECK(guarded == (unsigned long)conform.round * kThreads * 10, "%lu turns", guarded);
    CHECK(atomic_load(&ball) == conform.round * 2 * kBalls, "the ball");
  }
  crew_end();
  return conform_end();
}
