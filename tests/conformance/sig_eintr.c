/* covers: calls=read kind=forwarded; breaks-when: a handler without SA_RESTART does not end a
   blocked pipe read by EINTR, or the bytes that come later are lost */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

// Signals until it is told that one interrupted the read; then sends the data.
static void sender(int in, int out) {
  int64_t question;
  fcntl(in, F_SETFL, O_NONBLOCK);
  for (;;) {
    ssize_t n;
    while ((n = read(in, &question, sizeof question)) < 0) pause_ms(1);
    if (n == 0) return;
    pause_ms(3 + (int)question % 5);
    // For 20 s at most; then the read gets an answer that it must not get.
    int64_t answer = -1;
    for (int tries = 0; tries < 1000 && answer < 0; ++tries) {
      kill(conform.pid, SIGUSR1);
      for (int i = 0; i < 20 && read(in, &answer, sizeof answer) < 0; ++i) pause_ms(1);
    }
    send_all(out, &answer, sizeof answer);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_eintr");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, 0);
  conform_ready();
  while (conform_next()) {
    int64_t question = conform.round, answer = 0;
    signals = 0;
    CHECK(send_all(helper.to, &question, sizeof question), "the helper is gone");
    ssize_t size = read(helper.from, &answer, sizeof answer);
    CHECK(seen(size) == -1 && errno == EINTR, "read gave %zd", size);
    CHECK(signals >= 1, "no handler ran");
    question = conform.round * 1000;
    CHECK(send_all(helper.to, &question, sizeof question), "the helper is gone");
    CHECK(receive_all(helper.from, &answer, sizeof answer) && answer == question, "data");
  }
  return conform_end();
}
