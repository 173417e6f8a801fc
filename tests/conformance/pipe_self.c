/* covers: calls=pipe,read,write,ioctl kind=forwarded; breaks-when: a pipe to oneself, or how much
   it holds (FIONREAD), is not as at home */
#include <sys/ioctl.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "pipe_self");
  int ends[2];
  MUST(pipe(ends));
  char data[5000], got[5000];
  conform_ready();
  uint64_t seed = 42;
  size_t inside = 0, from = 0, to = 0;
  while (conform_next()) {
    size_t count = next_random(&seed) % 5000;
    for (size_t i = 0; i < count; ++i) data[i] = (char)pattern(42, to++);
    CHECK(write(ends[1], data, count) == (ssize_t)count, "write");
    inside += count;
    int held = -1;
    MUST(ioctl(ends[0], FIONREAD, &held));
    CHECK(seen(held) == (long long)inside, "it holds %d of %zu", held, inside);
    count = inside < 4000 ? inside : 4000;
    if (count > 0) CHECK(read(ends[0], got, count) == (ssize_t)count, "read");
    for (size_t i = 0; i < count; ++i) CHECK(got[i] == (char)pattern(42, from++), "byte %zu", i);
    inside -= count;
    int more[2];
    MUST(syscall(SYS_pipe, more));
    MUST(close(more[0]));
    MUST(close(more[1]));
    printf("inside %zu\n", inside);
  }
  return conform_end();
}
