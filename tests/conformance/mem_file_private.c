/* covers: calls=pread64,clock_nanosleep kind=forwarded; breaks-when: clean pages of a private file
   mapping differ from the file, dirty ones are lost, or they reach the file */
#include "conform.h"

enum { kPages = 64 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_file_private");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char page[kPage];
  for (int i = 0; i < kPages; ++i) {
    fill(page, kPage, (uint64_t)i);
    CHECK(send_all(fd, page, kPage), "write");
  }
  // The second half of the file, writable; the first half read-only; both private.
  char* low = MUST(mmap(NULL, kPages / 2 * kPage, PROT_READ, MAP_PRIVATE, fd, 0));
  char* high = MUST(
      mmap(NULL, kPages / 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, kPages / 2 * kPage));
  uint64_t version[kPages] = {0};
  conform_ready();
  uint64_t seed = 15;
  while (conform_next()) {
    for (int i = 0; i < kPages; ++i) {
      char* at = i < kPages / 2 ? low + i * kPage : high + (i - kPages / 2) * kPage;
      CHECK(seen(filled(at, kPage, version[i] ? version[i] : (uint64_t)i)) == 1, "page %d", i);
    }
    for (int n = 0; n < 3; ++n) {
      int i = kPages / 2 + (int)(next_random(&seed) % (kPages / 2));
      version[i] = 1000 + (uint64_t)conform.round;
      fill(high + (i - kPages / 2) * kPage, kPage, version[i]);
    }
    int i = (int)(next_random(&seed) % kPages);
    CHECK(pread(fd, page, kPage, i * kPage) == kPage && filled(page, kPage, (uint64_t)i),
          "the file's page %d", i);
  }
  return conform_end();
}
