/* covers: calls=pread64,pwrite64,lseek,read,newfstatat kind=forwarded; breaks-when: a thread that
   reads a file gets what another one asked for, or their common offset is not one */
#include "threads.h"

enum { kThreads = 6, kBlock = 3000, kBlocks = 60, kReads = 8 };

static int fd, shared;
static atomic_int passed;

static void part(int who, int round) {
  uint64_t dice = (uint64_t)(round * kThreads + who + 1);
  unsigned char block[kBlock];
  for (int i = 0; i < kReads; ++i) {
    // No thread's block is another one's to write.
    int which = (int)(next_random(&dice) % (kBlocks / kThreads)) * kThreads + who;
    size_t size = 1 + next_random(&dice) % kBlock;
    CHECK(pread(fd, block, size, which * kBlock) == (ssize_t)size, "pread");
    CHECK(seen(filled(block, size, (uint64_t)which)) == 1, "block %d in thread %d", which, who);
    CHECK(pwrite(fd, block, size, which * kBlock) == (ssize_t)size, "pwrite");
    struct stat st;
    MUST(fstat(fd, &st));
    CHECK(st.st_size == kBlock * kBlocks, "the size");
  }
  // At a common offset everyone gets blocks that nobody else gets.
  for (;;) {
    ssize_t n = read(shared, block, kBlock);
    if (n == 0) break;
    CHECK(n == kBlock, "read gave %zd", n);
    int which = -1;
    for (int b = 0; b < kBlocks && which < 0; ++b)
      if (filled(block, 16, (uint64_t)b)) which = b;
    CHECK(which >= 0 && filled(block, kBlock, (uint64_t)which), "it is no block");
    atomic_fetch_add(&passed, which + 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_file");
  conform_dir();
  fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  shared = MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC));
  for (int b = 0; b < kBlocks; ++b) {
    unsigned char block[kBlock];
    fill(block, kBlock, (uint64_t)b);
    CHECK(write(fd, block, kBlock) == kBlock, "write");
  }
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    atomic_store(&passed, 0);
    crew_round();
    CHECK(seen(atomic_load(&passed)) == kBlocks * (kBlocks + 1) / 2,
          "blocks are read twice or never");
    CHECK(lseek(shared, 0, SEEK_CUR) == kBlock * kBlocks, "the offset");
    CHECK(lseek(shared, 0, SEEK_SET) == 0, "seek");
  }
  crew_end();
  return conform_end();
}
