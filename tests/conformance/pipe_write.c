/* covers: calls=write kind=forwarded; breaks-when: bytes that the program writes into a pipe,
   blocking while it is full, reach a reader at home lost, doubled or reordered */
#include "conform.h"

enum { kChunk = 100000 };

// Reads slowly; answers every chunk with the number of right bytes.
static void reader(int in, int out) {
  static char chunk[kChunk];
  for (uint64_t number = 1;; ++number) {
    int64_t right = 0;
    for (int done = 0; done < kChunk; done += kChunk / 5) {
      pause_ms(2);
      if (!receive_all(in, chunk + done, kChunk / 5)) return;
    }
    for (int i = 0; i < kChunk; ++i) right += chunk[i] == (char)pattern(number, (uint64_t)i);
    if (!send_all(out, &right, sizeof right)) return;
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "pipe_write");
  struct helper helper = conform_helper(reader);
  static char chunk[kChunk];
  conform_ready();
  while (conform_next()) {
    fill(chunk, kChunk, (uint64_t)conform.round);
    // A stop in the middle may cut it short even at home (as signal(7) has it); see short_quiet.c.
    CHECK(send_all(helper.to, chunk, kChunk), "write");
    int64_t right;
    CHECK(receive_all(helper.from, &right, sizeof right), "the reader is gone");
    CHECK(seen(right) == kChunk, "%lld bytes are right", (long long)right);
  }
  return conform_end();
}
