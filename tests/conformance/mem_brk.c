/* covers: calls=brk kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: the heap's end,
   its contents or the zeroes of a heap that grows again are wrong after a move */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_brk");
  conform_ready();
  char* base = MUST(sbrk(0));
  size_t size = 0;
  uint64_t seed = 10;
  while (conform_next()) {
    CHECK(seen((char*)sbrk(0) - base) == (long long)size, "the heap's end");
    for (size_t page = 0; page * kPage < size; ++page)
      CHECK(filled(base + page * kPage, kPage, page), "heap page %zu", page);
    size_t wanted = (1 + next_random(&seed) % 200) * kPage;
    if (conform.round % 10 == 0) wanted = 0;
    MUST(brk(base + wanted));
    for (size_t page = size / kPage; page * kPage < wanted; ++page) {
      CHECK(zeroed(base + page * kPage, kPage), "new heap page %zu", page);
      fill(base + page * kPage, kPage, page);
    }
    size = wanted;
    printf("heap %zu\n", size);
  }
  MUST(brk(base));
  return conform_end();
}
