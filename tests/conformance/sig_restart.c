/* covers: calls=read kind=forwarded; breaks-when: a handler with SA_RESTART does not run while a
   pipe read is blocked, or the read returns EINTR or loses its bytes */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

// A signal, and later the data that the blocked read waits for.
static void sender(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    pause_ms(3 + (int)question % 5);
    kill(conform.pid, SIGUSR1);
    pause_ms(6);
    send_all(out, &question, sizeof question);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_restart");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, SA_RESTART);
  conform_ready();
  while (conform_next()) {
    int64_t question = conform.round, answer = 0;
    signals = 0;
    CHECK(send_all(helper.to, &question, sizeof question), "the helper is gone");
    ssize_t size = read(helper.from, &answer, sizeof answer);
    CHECK(seen(size) == sizeof answer, "read gave %zd", size);
    CHECK(answer == question, "data");
    CHECK(signals == 1, "the handler ran %d times", signals);
  }
  return conform_end();
}
