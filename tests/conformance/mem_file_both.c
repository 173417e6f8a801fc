/* covers: calls=pread64,clock_nanosleep kind=forwarded; breaks-when: what is written to a private
   mapping is lost if the same part of the file is mapped shared and read-only as well */
#include "conform.h"

enum { kPages = 8 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_file_both");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char page[kPage];
  for (int i = 0; i < kPages; ++i) {
    fill(page, kPage, (uint64_t)i);
    CHECK(send_all(fd, page, kPage), "write");
  }
  // Nobody can write by this one.
  int read_only = MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC));
  const char* shared = MUST(mmap(NULL, kPages * kPage, PROT_READ, MAP_SHARED, read_only, 0));
  char* own = MUST(mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  uint64_t version[kPages] = {0};
  conform_ready();
  while (conform_next()) {
    for (int i = 0; i < kPages; ++i) {
      CHECK(seen(filled(shared + i * kPage, kPage, (uint64_t)i)) == 1, "shared page %d", i);
      CHECK(filled(own + i * kPage, kPage, version[i] ? version[i] : (uint64_t)i), "page %d", i);
    }
    MUST_FAIL(EACCES, mprotect((void*)shared, kPage, PROT_READ | PROT_WRITE));
    int i = conform.round % kPages;
    version[i] = 1000 + (uint64_t)conform.round;
    fill(own + i * kPage, kPage, version[i]);
    CHECK(pread(fd, page, kPage, i * kPage) == kPage && filled(page, kPage, (uint64_t)i),
          "the file's page %d", i);
  }
  return conform_end();
}
