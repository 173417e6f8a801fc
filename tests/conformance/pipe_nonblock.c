/* covers: calls=pipe2,read,write kind=forwarded; breaks-when: a pipe made while away has another
   capacity, blocks in spite of O_NONBLOCK, or loses bytes */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "pipe_nonblock");
  static char data[4096], got[4096];
  conform_ready();
  while (conform_next()) {
    int ends[2];
    MUST(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    CHECK(fcntl(ends[0], F_GETFD) == FD_CLOEXEC, "flags");
    MUST_FAIL(EAGAIN, read(ends[0], got, 1));
    long capacity = MUST(fcntl(ends[1], F_GETPIPE_SZ)), written = 0;
    ssize_t n;
    for (int i = 0;; ++i) {
      fill(data, sizeof data, (uint64_t)i);
      n = write(ends[1], data, sizeof data);
      if (n < 0) break;
      written += n;
    }
    CHECK(errno == EAGAIN, "a full pipe");
    CHECK(seen(written) == capacity, "%ld bytes of %ld", written, capacity);
    pause_ms(4);
    for (int i = 0; i < written / (long)sizeof data; ++i)
      CHECK(read(ends[0], got, sizeof got) == sizeof got && filled(got, sizeof got, (uint64_t)i),
            "chunk %d", i);
    MUST_FAIL(EAGAIN, read(ends[0], got, 1));
    MUST(close(ends[1]));
    CHECK(read(ends[0], got, 1) == 0, "the end");
    MUST(close(ends[0]));
  }
  return conform_end();
}
