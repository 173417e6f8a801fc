/* covers: calls=read,write kind=forwarded; breaks-when: transfers of megabytes, of odd sizes and at
   odd addresses, in one call, are cut or damaged */
#include "conform.h"

enum { kMost = 3 << 20 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_io_big");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char out[kMost], in[kMost + 64];
  fill(out, kMost, 35);
  conform_ready();
  uint64_t seed = 35;
  while (conform_next()) {
    size_t skip = next_random(&seed) % 4096;
    size_t size = kMost - skip - next_random(&seed) % (kMost / 2);
    MUST(lseek(fd, 0, SEEK_SET));
    CHECK(write(fd, out + skip, size) == (ssize_t)size, "write");
    MUST(lseek(fd, 0, SEEK_SET));
    char* at = in + skip % 61;
    at[size] = 'x';
    CHECK(read(fd, at, size) == (ssize_t)size, "read");
    CHECK(seen(memcmp(at, out + skip, size)) == 0, "bytes");
    CHECK(at[size] == 'x', "a byte past the end");
    printf("size %zu\n", size);
  }
  return conform_end();
}
