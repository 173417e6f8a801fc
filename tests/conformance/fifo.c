/* covers: calls=mknodat,openat,read,write kind=forwarded; breaks-when: a named pipe cannot be made,
   its open does not wait for the other side at home, or bytes are lost */
#include "conform.h"

// Opens the named pipe for writing when told to, writes lines and closes it.
static void writer(int in, int out) {
  int64_t round;
  while (receive_all(in, &round, sizeof round)) {
    pause_ms((int)(round % 6));
    int fd = open(in_dir("fifo"), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    for (int i = 0; i < 20; ++i) dprintf(fd, "%lld %d\n", (long long)round, i);
    close(fd);
  }
  (void)out;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "fifo");
  conform_dir();
  struct helper helper = conform_helper(writer);
  conform_ready();
  while (conform_next()) {
    if (conform.round % 5 == 1) {
      unlink(in_dir("fifo"));
      MUST(mkfifo(in_dir("fifo"), 0600));
      struct stat st;
      MUST(stat(in_dir("fifo"), &st));
      CHECK(S_ISFIFO(st.st_mode), "its kind");
      MUST_FAIL(ENXIO, open(in_dir("fifo"), O_WRONLY | O_NONBLOCK));
    }
    int64_t round = conform.round;
    CHECK(send_all(helper.to, &round, sizeof round), "the helper is gone");
    int fd = MUST(open(in_dir("fifo"), O_RDONLY | O_CLOEXEC));
    char text[1000], expected[1000];
    size_t size = 0, wanted = 0;
    for (int i = 0; i < 20; ++i)
      wanted += (size_t)sprintf(expected + wanted, "%d %d\n", conform.round, i);
    ssize_t n;
    while ((n = read(fd, text + size, sizeof text - size)) > 0) size += (size_t)n;
    CHECK(n == 0 && seen((long long)size) == (long long)wanted, "%zu bytes of %zu", size, wanted);
    CHECK(memcmp(text, expected, size) == 0, "bytes");
    MUST(close(fd));
  }
  return conform_end();
}
