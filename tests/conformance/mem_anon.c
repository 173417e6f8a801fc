/* covers: calls=mmap,munmap,mprotect kind=local; calls=clock_nanosleep kind=forwarded; breaks-when:
   a private mapping made, split, protected or removed away or at home loses its bytes or stays */
#include "conform.h"

enum { kSlots = 24, kMaxPages = 40 };

static struct {
  char* at;
  size_t pages;
  uint64_t seed;
} slot[kSlots];

static void make(int i, uint64_t* seed) {
  slot[i].pages = 1 + next_random(seed) % kMaxPages;
  slot[i].seed = next_random(seed);
  size_t size = slot[i].pages * kPage;
  slot[i].at = MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  fill(slot[i].at, size, slot[i].seed);
  if (i % 3 == 1) MUST(mprotect(slot[i].at, size, PROT_READ));
  // Three areas of different protection out of one.
  if (i % 3 == 2) MUST(mprotect(slot[i].at + size / kPage / 3 * kPage, kPage, PROT_READ));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_anon");
  uint64_t seed = 11;
  for (int i = 0; i < kSlots; ++i) make(i, &seed);
  conform_ready();
  while (conform_next()) {
    size_t pages = 0;
    for (int i = 0; i < kSlots; ++i) {
      CHECK(seen(filled(slot[i].at, slot[i].pages * kPage, slot[i].seed)) == 1, "mapping %d", i);
      pages += slot[i].pages;
    }
    for (int n = 0; n < 6; ++n) {
      int i = (int)(next_random(&seed) % kSlots);
      char* at = slot[i].at;
      size_t size = slot[i].pages * kPage;
      MUST(munmap(at, size));
      // The hole is free: a mapping that insists on the place gets it.
      char* again = mmap(at, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      CHECK(again == at && again[0] == 0 && again[size - 1] == 0, "hole at %d", i);
      MUST(munmap(at, size));
      make(i, &seed);
    }
    printf("pages %zu\n", pages);
  }
  return conform_end();
}
