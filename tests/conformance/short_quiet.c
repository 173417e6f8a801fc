/* covers: calls=write,read kind=forwarded; breaks-when: a move, with no signal for the program
   anywhere, cuts short a write that waits half done for room in a pipe */
#include "conform.h"

enum { kChunk = 200000 };

static void reader(int in, int out) {
  static char part[kChunk / 10];
  int64_t done = 0;
  for (;;) {
    pause_ms(3);
    if (!receive_all(in, part, sizeof part)) return;
    done += sizeof part;
    if (done % kChunk == 0 && !send_all(out, &done, sizeof done)) return;
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "short_quiet");
  struct helper helper = conform_helper(reader);
  static char chunk[kChunk];
  conform_ready();
  while (conform_next()) {
    // A blocking pipe takes all of it in one call, however long that waits.
    ssize_t written = write(helper.to, chunk, kChunk);
    CHECK(seen(written) == kChunk, "%zd bytes were written", written);
    int64_t done;
    CHECK(receive_all(helper.from, &done, sizeof done) && done == (int64_t)conform.round * kChunk,
          "the reader");
  }
  return conform_end();
}
