/* covers: calls=membarrier kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a program
   that has registered for barriers in all of its threads may not ask for them any more, or they do
   not order what the threads see */
#include <linux/membarrier.h>

#include "threads.h"

enum { kTries = 2000 };

static atomic_int first, second, seen_by_first, seen_by_second, turn, done;

static int membarrier(int command) { return (int)syscall(SYS_membarrier, command, 0, 0); }

// Two threads that each store and then look: one of them at least sees the other's store, though
// only the second one pays for the order.
static void part(int who, int round) {
  int from = (round - 1) * kTries;
  int spins = 0;
  for (int i = from + 1; i <= from + kTries; ++i) {
    while (atomic_load(&turn) < i)
      if (++spins % 1000 == 0) sched_yield();
    if (who == 0) {
      atomic_store_explicit(&first, i, memory_order_relaxed);
      atomic_signal_fence(memory_order_seq_cst);
      atomic_store(&seen_by_first, atomic_load_explicit(&second, memory_order_relaxed));
    } else {
      atomic_store_explicit(&second, i, memory_order_relaxed);
      MUST(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
      atomic_store(&seen_by_second, atomic_load_explicit(&first, memory_order_relaxed));
    }
    if (atomic_fetch_add(&done, 1) % 2 == 0) continue;
    CHECK(seen(atomic_load(&seen_by_first) == i || atomic_load(&seen_by_second) == i) == 1,
          "neither saw the other's store");
    atomic_fetch_add(&turn, 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_membarrier");
  MUST_FAIL(EPERM, membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
  MUST(membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED));
  atomic_store(&turn, 1);
  crew_start(2, part);
  conform_ready();
  while (conform_next()) crew_round();
  CHECK(atomic_load(&done) == 2 * conform.rounds * kTries, "%d tries", atomic_load(&done));
  crew_end();
  return conform_end();
}
