/* covers: calls=madvise kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: pages given
   up by MADV_DONTNEED come back with old bytes, or others are given up with them */
#include "conform.h"

enum { kPages = 256 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_madvise");
  char* area =
      MUST(mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  bool written[kPages];
  for (int i = 0; i < kPages; ++i) fill(area + i * kPage, kPage, (uint64_t)i), written[i] = true;
  conform_ready();
  uint64_t seed = 19;
  while (conform_next()) {
    int given = 0;
    for (int i = 0; i < kPages; ++i) {
      char* page = area + i * kPage;
      CHECK(seen(written[i] ? filled(page, kPage, (uint64_t)i) : zeroed(page, kPage)) == 1,
            "page %d", i);
      given += !written[i];
    }
    size_t from = next_random(&seed) % kPages, count = 1 + next_random(&seed) % 16;
    if (from + count > kPages) count = kPages - from;
    MUST(madvise(area + from * kPage, count * kPage, MADV_DONTNEED));
    for (size_t i = from; i < from + count; ++i) written[i] = false;
    for (int n = 0; n < 8; ++n) {
      size_t i = next_random(&seed) % kPages;
      fill(area + i * kPage, kPage, i);
      written[i] = true;
    }
    printf("given up %d\n", given);
  }
  return conform_end();
}
