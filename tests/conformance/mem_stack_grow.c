/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: the stack does not grow away, or
   frames of a deep recursion are lost */
#include "conform.h"

static uint64_t descend(int depth, uint64_t seed) {
  unsigned char frame[4096];
  fill(frame, sizeof frame, seed + (uint64_t)depth);
  if (depth == 0) pause_ms(6);
  uint64_t below = depth == 0 ? 1 : descend(depth - 1, seed);
  CHECK(seen(filled(frame, sizeof frame, seed + (uint64_t)depth)) == 1, "frame at depth %d", depth);
  return below * 31 + frame[depth % 4096];
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_stack_grow");
  conform_ready();
  while (conform_next()) {
    // Deeper every round, up to some 6 MB, then from the top again.
    int depth = 20 + conform.round % 75 * 20;
    printf("depth %d sum %016llx\n", depth,
           (unsigned long long)descend(depth, (uint64_t)conform.round));
  }
  return conform_end();
}
