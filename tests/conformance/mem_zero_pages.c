/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a page that was never written, was
   only read, or was written with zeroes shows anything else, or a written one is taken for zero */
#include "conform.h"

enum { kPages = 400 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_zero_pages");
  char* area =
      MUST(mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  static char bss[kPages * kPage];
  conform_ready();
  unsigned char last[kPages] = {0};
  uint64_t seed = 20;
  while (conform_next()) {
    for (int n = 0; n < 10; ++n) {
      int i = (int)(next_random(&seed) % kPages);
      // One byte in an otherwise zero page, sometimes zero again; by turns only read.
      if (n % 5 == 4) {
        CHECK(*(volatile unsigned char*)(area + i * kPage + kPage - 1) == last[i], "page %d", i);
      } else {
        last[i] = n % 3 == 0 ? 0 : (unsigned char)next_random(&seed);
        area[i * kPage + kPage - 1] = bss[i * kPage + kPage - 1] = (char)last[i];
      }
    }
    for (int i = 0; i < kPages; i += 1 + conform.round % 7) {
      CHECK(zeroed(area + i * kPage, kPage - 1) && zeroed(bss + i * kPage, kPage - 1),
            "zeroes of %d", i);
      CHECK(seen((unsigned char)area[i * kPage + kPage - 1]) == last[i], "page %d", i);
      CHECK((unsigned char)bss[i * kPage + kPage - 1] == last[i], "bss page %d", i);
    }
  }
  return conform_end();
}
