/* covers: calls=mremap kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a mapping
   that grew, shrank or moved is not where and what it was, or its old place is still mapped */
#include "conform.h"

static bool is_free(char* at) {
  char* got = mmap(at, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return false;
  MUST(munmap(got, kPage));
  return got == at;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_mremap");
  // A reserved place to which mappings can be moved.
  const size_t room = 512 * kPage;
  char* place = MUST(mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  size_t pages = 16;
  char* at =
      MUST(mmap(NULL, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  fill(at, pages * kPage, 7);
  uint64_t seed = 13;
  conform_ready();
  while (conform_next()) {
    size_t wanted = 4 + next_random(&seed) % 120;
    char* old = at;
    char* target = place + next_random(&seed) % 300 * kPage;
    bool apart = old + pages * kPage <= target || target + wanted * kPage <= old;
    if (conform.round % 2 == 0 && apart) {
      at = MUST(mremap(at, pages * kPage, wanted * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target));
      CHECK(at == target, "moved elsewhere");
      CHECK(is_free(old), "the old place is still mapped");
    } else {
      at = MUST(mremap(at, pages * kPage, wanted * kPage, MREMAP_MAYMOVE));
    }
    size_t kept = wanted < pages ? wanted : pages;
    CHECK(seen(filled(at, kept * kPage, 7)) == 1, "contents");
    CHECK(wanted <= pages || zeroed(at + pages * kPage, (wanted - pages) * kPage), "new pages");
    pages = wanted;
    fill(at, pages * kPage, 7);
    pause_ms(5);
    CHECK(filled(at, pages * kPage, 7), "contents after a pause");
    printf("pages %zu\n", pages);
  }
  return conform_end();
}
