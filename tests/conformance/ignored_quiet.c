/* covers: calls=poll,ppoll,epoll_wait,epoll_pwait2,rt_sigtimedwait,clock_nanosleep,write
   kind=forwarded; breaks-when: a signal that the program ignores ends a call, cuts a write short,
   or makes a wait begin anew */
#include "timed_waits.h"

// Longer than the signals are apart: a wait that each of them made begin anew would not end.
enum { kLimitMs = 150, kSignalEveryMs = 20, kChunk = 200000 };

static void sender(int in, int out) {
  (void)out;
  int64_t question;
  receive_all(in, &question, sizeof question);
  for (;;) {
    pause_ms(kSignalEveryMs);
    kill(conform.pid, SIGCHLD);
    kill(conform.pid, SIGUSR2);
  }
}

static void reader(int in, int out) {
  static char part[kChunk / 10];
  int64_t done = 0;
  for (;;) {
    pause_ms(8);
    if (!receive_all(in, part, sizeof part)) return;
    done += sizeof part;
    if (done % kChunk == 0 && !send_all(out, &done, sizeof done)) return;
  }
}

static int (*const kWaits[])(int) = {by_poll,   by_ppoll, by_epoll, by_epoll_to_the_ns,
                                     by_signal, by_sleep};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "ignored_quiet");
  struct helper slow_reader = conform_helper(reader);
  struct helper sending = conform_helper(sender);
  waits_begin();
  CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR, "signal");
  int64_t start_now = 1;
  CHECK(send_all(sending.to, &start_now, sizeof start_now), "the sender");
  static char chunk[kChunk];
  conform_ready();
  for (int64_t chunks = 1; conform_next();) {
    if (conform.round % 2 == 0) {
      int which = conform.round / 2 % kKinds;
      check_wait(kWaits[which], which, kLimitMs);
      continue;
    }
    ssize_t written = write(slow_reader.to, chunk, kChunk);
    CHECK(seen(written) == kChunk, "%zd bytes were written", written);
    int64_t done;
    CHECK(receive_all(slow_reader.from, &done, sizeof done) && done == chunks++ * kChunk,
          "the reader");
  }
  return conform_end();
}
