/* covers: calls=readv,writev,preadv,pwritev kind=forwarded; breaks-when: a vector's parts are
   exchanged, cut at the wrong place or lost */
#include <sys/uio.h>

#include "conform.h"

enum { kParts = 9 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_vec");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char out[40000], in[40000];
  conform_ready();
  uint64_t seed = 32;
  while (conform_next()) {
    struct iovec from[kParts], to[kParts];
    size_t total = 0, cut = 0;
    for (int i = 0; i < kParts; ++i) {
      // Parts of 0 bytes, of a few and of more than a page.
      size_t size = i == 4 ? 0 : 1 + next_random(&seed) % 4200;
      from[i] = (struct iovec){.iov_base = out + total, .iov_len = size};
      total += size;
    }
    fill(out, total, (uint64_t)conform.round);
    for (int i = 0; i < kParts; ++i) {
      size_t size = i == kParts - 1 ? total - cut : (total - cut) / 3;
      to[i] = (struct iovec){.iov_base = in + cut, .iov_len = size};
      cut += size;
    }
    CHECK(lseek(fd, 0, SEEK_SET) == 0, "seek");
    CHECK(writev(fd, from, kParts) == (ssize_t)total, "writev");
    CHECK(lseek(fd, 0, SEEK_SET) == 0, "seek");
    memset(in, 0, sizeof in);
    CHECK(readv(fd, to, kParts) == (ssize_t)total, "readv");
    CHECK(seen(filled(in, total, (uint64_t)conform.round)) == 1, "readv's bytes");
    CHECK(zeroed(in + total, sizeof in - total), "bytes past the vector");
    CHECK(pwritev(fd, from, kParts, 100000) == (ssize_t)total, "pwritev");
    memset(in, 0, sizeof in);
    CHECK(preadv(fd, to, kParts, 100000) == (ssize_t)total, "preadv");
    CHECK(filled(in, total, (uint64_t)conform.round), "preadv's bytes");
    CHECK(preadv(fd, to, 0, 0) == 0, "an empty vector");
    MUST_FAIL(EINVAL, syscall(SYS_readv, fd, to, -1));
    printf("total %zu\n", total);
  }
  return conform_end();
}
