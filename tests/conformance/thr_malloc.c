/* covers: calls=mmap,munmap,mprotect kind=local; calls=clock_nanosleep kind=forwarded; breaks-when:
   what threads allocate, free and hand each other overlaps or changes */
#include <malloc.h>

#include "threads.h"

enum { kThreads = 6, kBlocks = 48, kSteps = 300, kBig = 200 * 1024 };

struct block {
  uint64_t seed;
  size_t size;
  unsigned char bytes[];
};

static struct block* blocks[kThreads][kBlocks];
static _Atomic(struct block*) passed[kThreads];
static uint64_t sums[kThreads];
static __thread uint64_t dice;

static void check(struct block* block) {
  if (block) CHECK(seen(filled(block->bytes, block->size, block->seed)) == 1, "a block");
}

static struct block* make(struct block* old) {
  size_t size = next_random(&dice) % 50 == 0 ? kBig : next_random(&dice) % 2000;
  struct block* block = realloc(old, sizeof *block + size);
  CHECK(block != NULL, "no memory");
  block->size = size;
  block->seed = next_random(&dice);
  fill(block->bytes, size, block->seed);
  return block;
}

static void part(int who, int round) {
  if (round == 1) dice = (uint64_t)who + 1;
  for (int i = 0; i < kSteps; ++i) {
    struct block** place = &blocks[who][next_random(&dice) % kBlocks];
    check(*place);
    switch (next_random(&dice) % 4) {
      case 0:
        free(*place);
        *place = NULL;
        break;
      case 1: {
        // Another thread will free it.
        struct block* taken = atomic_exchange(&passed[(who + i) % kThreads], make(NULL));
        check(taken);
        free(taken);
        break;
      }
      default:
        *place = make(*place);
        sums[who] = sums[who] * 31 + (*place)->size;
    }
    if (i == 100) pause_ms(2);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_malloc");
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    for (int i = 0; i < kThreads; ++i) printf("%016llx\n", (unsigned long long)sums[i]);
    if (conform.round % 20 == 0) malloc_trim(0);
  }
  crew_end();
  for (int i = 0; i < kThreads; ++i) {
    check(passed[i]);
    for (int j = 0; j < kBlocks; ++j) check(blocks[i][j]);
  }
  return conform_end();
}
