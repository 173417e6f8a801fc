/* covers: calls=read kind=forwarded; breaks-when: a handler that leaves a blocked call by
   siglongjmp does not arrive, loses the mask, or the call takes bytes after all */
#include <setjmp.h>

#include "conform.h"

static sigjmp_buf back;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  siglongjmp(back, 1);
}

// A signal, and on the next order the data.
static void sender(int in, int out) {
  int64_t order;
  while (receive_all(in, &order, sizeof order)) {
    if (order < 0) {
      pause_ms(8);
      kill(conform.pid, SIGUSR1);
    } else {
      send_all(out, &order, sizeof order);
    }
  }
}

static bool interrupted(struct helper* helper) {
  if (sigsetjmp(back, 1) != 0) return true;
  int64_t order = -1;
  CHECK(send_all(helper->to, &order, sizeof order), "the helper is gone");
  int64_t data;
  CHECK(read(helper->from, &data, sizeof data) < 0, "data that nobody sent");
  return false;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_jump");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, SA_RESTART);
  conform_ready();
  while (conform_next()) {
    CHECK(seen(interrupted(&helper)) == 1, "no jump");
    sigset_t got;
    MUST(sigprocmask(SIG_BLOCK, NULL, &got));
    CHECK(sigismember(&got, SIGUSR1) == 0, "the mask");
    CHECK(ask(&helper, conform.round) == conform.round, "data");
  }
  return conform_end();
}
