/* covers: calls=read kind=forwarded; breaks-when: bytes that a process at home writes into a pipe
   are lost, doubled or reordered for the program that reads them */
#include "conform.h"

static void writer(int in, int out) {
  (void)in;
  uint32_t number = 0;
  uint64_t seed = 40;
  static uint32_t chunk[3000];
  for (;;) {
    size_t count = 1 + next_random(&seed) % 3000;
    for (size_t i = 0; i < count; ++i) chunk[i] = number++;
    if (!send_all(out, chunk, count * 4)) return;
    if (count % 4 == 0) pause_ms(3);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "pipe_read");
  struct helper helper = conform_helper(writer);
  conform_ready();
  uint32_t expected = 0;
  char rest[4];
  size_t kept = 0;
  while (conform_next()) {
    static char buffer[20004];
    for (int n = 0; n < 4; ++n) {
      memcpy(buffer, rest, kept);
      ssize_t got = read(helper.from, buffer + kept, 20000 - 13 * (size_t)n);
      CHECK(got > 0, "read");
      size_t have = kept + (size_t)got;
      for (size_t i = 0; i + 4 <= have; i += 4) {
        uint32_t number;
        memcpy(&number, buffer + i, 4);
        CHECK(seen(number) == expected, "%u instead of %u", number, expected);
        ++expected;
      }
      kept = have % 4;
      memcpy(rest, buffer + have - kept, kept);
    }
  }
  return conform_end();
}
