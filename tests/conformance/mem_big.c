/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a page of 64 MB is lost, stale or
   misplaced */
#include "conform.h"

enum { kBytes = 64 << 20, kWords = kBytes / 8, kPageWords = kPage / 8, kPages = kBytes / kPage };

static uint64_t word(uint64_t version, uint64_t i) {
  return (version << 40 ^ i) * 0x9e3779b97f4a7c15ULL;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_big");
  uint64_t* area =
      MUST(mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  static uint32_t version[kPages];
  for (uint64_t i = 0; i < kWords; ++i) area[i] = word(0, i);
  conform_ready();
  uint64_t seed = 21, sum = 0;
  while (conform_next()) {
    // An eighth of it a round, all of it at the end.
    bool all = conform.round == conform.rounds;
    for (uint64_t page = 0; page < kPages; ++page) {
      if (!all && page % 8 != (uint64_t)conform.round % 8) continue;
      for (uint64_t i = page * kPageWords; i < (page + 1) * kPageWords; ++i) {
        CHECK(seen((long long)area[i]) == (long long)word(version[page], i), "word %llu",
              (unsigned long long)i);
        sum = sum * 31 + area[i];
      }
    }
    for (int n = 0; n < 100; ++n) {
      uint64_t page = next_random(&seed) % kPages;
      version[page] = (uint32_t)conform.round;
      for (uint64_t i = page * kPageWords; i < (page + 1) * kPageWords; ++i)
        area[i] = word(version[page], i);
    }
    printf("sum %016llx\n", (unsigned long long)sum);
  }
  return conform_end();
}
