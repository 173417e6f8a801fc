/* covers: calls=getrandom kind=local; calls=openat,read kind=forwarded; breaks-when: random bytes
   repeat after a move, do not come, or are written past the buffer */
#include <sys/random.h>

#include "conform.h"

enum { kMost = 1000 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "getrandom");
  static uint64_t drawn[kMost * 2];
  int count = 0;
  conform_ready();
  while (conform_next()) {
    char buffer[300];
    memset(buffer, 0, sizeof buffer);
    CHECK(getrandom(buffer, 200, 0) == 200, "getrandom");
    CHECK(!zeroed(buffer, 200) && zeroed(buffer + 200, 100), "its bytes");
    CHECK(getrandom(buffer, 10, GRND_NONBLOCK) == 10, "getrandom");
    if (count + 2 > kMost) continue;
    CHECK(getrandom(&drawn[count++], 8, 0) == 8, "getrandom");
    int fd = MUST(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    CHECK(read(fd, &drawn[count++], 8) == 8, "urandom");
    MUST(close(fd));
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < i; ++j) CHECK(seen(drawn[i] == drawn[j]) == 0, "a number came twice");
  }
  return conform_end();
}
