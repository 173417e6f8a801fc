/* covers: calls=pread64,pwrite64 kind=forwarded; breaks-when: positioned reads and writes hit
   another place or move the offset */
#include "conform.h"

enum { kBlocks = 64, kBlock = 5000 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_prw");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char block[kBlock];
  uint64_t version[kBlocks] = {0};
  CHECK(write(fd, block, 100) == 100, "write");
  conform_ready();
  uint64_t seed = 31;
  while (conform_next()) {
    for (int n = 0; n < 4; ++n) {
      uint64_t i = next_random(&seed) % kBlocks;
      version[i] = (uint64_t)conform.round * kBlocks + i;
      fill(block, kBlock, version[i]);
      CHECK(pwrite(fd, block, kBlock, (off_t)i * kBlock) == kBlock, "pwrite");
    }
    for (int i = 0; i < kBlocks; ++i) {
      if (!version[i]) continue;
      memset(block, 0, kBlock);
      CHECK(pread(fd, block, kBlock, i * kBlock) == kBlock, "pread");
      CHECK(seen(filled(block, kBlock, version[i])) == 1, "block %d", i);
    }
    CHECK(lseek(fd, 0, SEEK_CUR) == 100, "the offset moved");
    CHECK(pread(fd, block, kBlock, kBlocks * kBlock) == 0, "past the end");
    MUST_FAIL(EINVAL, pread(fd, block, 1, -1));
  }
  return conform_end();
}
