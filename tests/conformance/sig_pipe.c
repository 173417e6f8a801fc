/* covers: calls=write,pipe2 kind=forwarded; breaks-when: a write without a reader does not raise
   SIGPIPE, raises it more than once, or does not return EPIPE */
#include "conform.h"

static volatile int signals;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++signals;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_pipe");
  conform_ready();
  while (conform_next()) {
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC));
    CHECK(write(ends[1], "x", 1) == 1, "write");
    MUST(close(ends[0]));
    on_signal(SIGPIPE, handler, SA_RESTART);
    signals = 0;
    MUST_FAIL(EPIPE, write(ends[1], "x", 1));
    CHECK(seen(signals) == 1, "%d signals when the write returned", signals);
    signal(SIGPIPE, SIG_IGN);
    MUST_FAIL(EPIPE, write(ends[1], "x", 1));
    CHECK(signals == 1, "an ignored signal was handled");
    // Blocked, it pends until it is taken.
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    on_signal(SIGPIPE, handler, SA_RESTART);
    MUST(sigprocmask(SIG_BLOCK, &set, &old));
    MUST_FAIL(EPIPE, write(ends[1], "x", 1));
    int signo = 0;
    CHECK(sigwait(&set, &signo) == 0 && signo == SIGPIPE, "sigwait");
    MUST(sigprocmask(SIG_SETMASK, &old, NULL));
    CHECK(signals == 1, "%d signals", signals);
    MUST(close(ends[1]));
  }
  return conform_end();
}
