/* covers: calls=ftruncate,truncate,fallocate,fsync,fdatasync kind=forwarded; breaks-when: a file's
   size or the zeroes of its new part are wrong */
#include "conform.h"

static off_t size_of(int fd) {
  struct stat st;
  MUST(fstat(fd, &st));
  return st.st_size;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_truncate");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char data[20000], got[30000];
  fill(data, sizeof data, 33);
  conform_ready();
  uint64_t seed = 33;
  while (conform_next()) {
    MUST(ftruncate(fd, 0));
    CHECK(pwrite(fd, data, sizeof data, 0) == sizeof data, "write");
    off_t cut = (off_t)(1 + next_random(&seed) % 19000);
    MUST(ftruncate(fd, cut));
    CHECK(seen(size_of(fd)) == cut, "size after a cut");
    MUST(truncate(in_dir("data"), 25000));
    CHECK(size_of(fd) == 25000, "size after growth");
    CHECK(pread(fd, got, sizeof got, 0) == 25000, "read");
    CHECK(memcmp(got, data, (size_t)cut) == 0 && zeroed(got + cut, 25000 - (size_t)cut), "bytes");
    // Not every file system can allocate; then it must say so, and nothing may change.
    if (fallocate(fd, 0, 25000, 5000) == 0) {
      CHECK(size_of(fd) == 30000, "size after fallocate");
    } else {
      CHECK(errno == EOPNOTSUPP && size_of(fd) == 25000, "fallocate");
    }
    MUST(fdatasync(fd));
    if (conform.round % 8 == 0) MUST(fsync(fd));
    MUST_FAIL(EINVAL, ftruncate(fd, -1));
    printf("cut %lld\n", (long long)cut);
  }
  return conform_end();
}
