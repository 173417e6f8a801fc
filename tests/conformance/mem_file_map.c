/* covers: calls=mmap kind=either; calls=clock_nanosleep kind=forwarded; breaks-when: a file mapped
   while the program is away shows other bytes than the file has at home */
#include "conform.h"

enum { kPages = 20 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_file_map");
  conform_dir();
  static char page[kPage];
  conform_ready();
  while (conform_next()) {
    if (conform.round % 6 != 3) continue;
    int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    for (int i = 0; i < kPages; ++i) {
      fill(page, kPage, (uint64_t)(conform.round * 100 + i));
      CHECK(send_all(fd, page, kPage), "write");
    }
    char* at =
        MUST(mmap(NULL, (kPages - 1) * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, kPage));
    MUST(close(fd));
    MUST(unlink(in_dir("data")));
    pause_ms(5);
    for (int i = 1; i < kPages; ++i)
      CHECK(seen(filled(at + (i - 1) * kPage, kPage, (uint64_t)(conform.round * 100 + i))) == 1,
            "page %d", i);
    memset(at, 1, kPage);
    pause_ms(5);
    CHECK(at[5] == 1 && filled(at + kPage, kPage, (uint64_t)(conform.round * 100 + 2)),
          "after a write");
    MUST(munmap(at, (kPages - 1) * kPage));
  }
  return conform_end();
}
