/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: frames deep in the stack of a thread
   are lost, or its stack does not hold what it did before */
#include "threads.h"

enum { kThreads = 3, kStack = 6 * 1024 * 1024, kDeepest = 1200 };

static uint64_t sums[kThreads];

static uint64_t descend(int depth, uint64_t seed) {
  unsigned char frame[4096];
  fill(frame, sizeof frame, seed + (uint64_t)depth);
  if (depth == 0) pause_ms(6);
  uint64_t below = depth == 0 ? 1 : descend(depth - 1, seed);
  CHECK(seen(filled(frame, sizeof frame, seed + (uint64_t)depth)) == 1, "frame at depth %d", depth);
  return below * 31 + frame[depth % 4096];
}

static void part(int who, int round) {
  // Deeper every round, each from where it is, and then from the top again.
  int depth = 20 + (round * 40 + who * 400) % kDeepest;
  sums[who] = descend(depth, (uint64_t)(round * kThreads + who));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_stack");
  crew_with_stacks(kStack, kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    for (int i = 0; i < kThreads; ++i)
      printf("thread %d: %016llx\n", i, (unsigned long long)sums[i]);
  }
  crew_end();
  return conform_end();
}
