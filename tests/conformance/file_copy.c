/* covers: calls=sendfile,copy_file_range,splice kind=either; calls=pread64 kind=forwarded;
   breaks-when: copies between descriptors lose bytes or leave offsets wrong */
#include <sys/sendfile.h>

#include "conform.h"

enum { kSize = 30000 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_copy");
  conform_dir();
  int from = MUST(open(in_dir("from"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  int to = MUST(open(in_dir("to"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  static char data[kSize];
  int ends[2];
  MUST(pipe2(ends, O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    fill(data, kSize, (uint64_t)conform.round);
    CHECK(pwrite(from, data, kSize, 0) == kSize, "pwrite");
    memset(data, 0, kSize);
    if (conform.round % 4 == 1) {
      off_t at = 0;
      MUST(lseek(to, 0, SEEK_SET));
      CHECK(sendfile(to, from, &at, kSize) == kSize && at == kSize, "sendfile");
    } else if (conform.round % 4 == 2) {
      off_t at = 0, there = 0;
      while (at < kSize)
        CHECK(copy_file_range(from, &at, to, &there, (size_t)(kSize - at), 0) > 0,
              "copy_file_range");
      CHECK(there == kSize, "copy_file_range's offset");
    } else {
      off_t at = 0, there = 0;
      while (there < kSize) {
        ssize_t n = splice(from, &at, ends[1], NULL, (size_t)(kSize - at), 0);
        CHECK(n > 0, "splice");
        while (n > 0) {
          ssize_t moved = splice(ends[0], NULL, to, &there, (size_t)n, 0);
          CHECK(moved > 0, "splice");
          n -= moved;
        }
      }
    }
    CHECK(pread(to, data, kSize, 0) == kSize, "pread");
    CHECK(seen(filled(data, kSize, (uint64_t)conform.round)) == 1, "copy");
  }
  return conform_end();
}
