/* covers: calls=openat,read,write,lseek,close kind=forwarded; breaks-when: a regular file's bytes,
   its offset or the end of it are wrong */
#include "conform.h"

enum { kRecord = 3000 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_rw");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char record[kRecord];
  conform_ready();
  uint64_t seed = 30;
  while (conform_next()) {
    off_t end = (off_t)(conform.round - 1) * kRecord;
    CHECK(seen(lseek(fd, 0, SEEK_CUR)) == end, "offset");
    fill(record, kRecord, (uint64_t)conform.round);
    CHECK(write(fd, record, kRecord) == kRecord, "write");
    int which = (int)(next_random(&seed) % (uint64_t)conform.round);
    CHECK(lseek(fd, which * kRecord, SEEK_SET) == which * kRecord, "seek");
    CHECK(read(fd, record, kRecord) == kRecord, "read");
    CHECK(filled(record, kRecord, (uint64_t)which + 1), "record %d", which);
    // A second description of the same file has an offset of its own.
    int other = MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC));
    CHECK(read(other, record, kRecord) == kRecord && filled(record, kRecord, 1), "record 0");
    CHECK(lseek(other, -10, SEEK_END) == end + kRecord - 10, "seek from the end");
    CHECK(read(other, record, kRecord) == 10, "a short read at the end");
    CHECK(read(other, record, kRecord) == 0, "the end");
    MUST_FAIL(EBADF, write(other, record, 1));
    MUST_FAIL(EINVAL, lseek(other, -1, SEEK_SET));
    MUST(close(other));
    MUST_FAIL(EBADF, read(other, record, 1));
    CHECK(lseek(fd, 0, SEEK_END) == end + kRecord, "seek to the end");
    printf("record %d\n", which);
  }
  return conform_end();
}
