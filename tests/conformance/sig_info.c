/* covers: calls=rt_sigqueueinfo,read kind=forwarded; breaks-when: what a handler is told of its
   signal (sender, value, code) is not what home knows */
#include "conform.h"

static volatile sig_atomic_t signals;
static volatile siginfo_t last;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  last = *info;
  ++signals;
}

static void sender(int in, int out) {
  int64_t value;
  while (receive_all(in, &value, sizeof value)) {
    if (value > 0)
      sigqueue(conform.pid, SIGUSR1, (union sigval){.sival_ptr = (void*)(uintptr_t)value});
    else
      kill(conform.pid, SIGUSR2);
    send_all(out, &value, sizeof value);
  }
}

static void wait_for_signal(void) {
  int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
  while (signals == 0) {
    CHECK(now(CLOCK_MONOTONIC) < give_up, "no signal");
    if (conform.round % 2) pause_ms(1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_info");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, SA_RESTART);
  on_signal(SIGUSR2, handler, SA_RESTART);
  conform_ready();
  while (conform_next()) {
    int64_t value = 0x123400000000LL + conform.round;
    signals = 0;
    ask(&helper, value);
    wait_for_signal();
    CHECK(last.si_signo == SIGUSR1 && last.si_code == SI_QUEUE, "signal %d", last.si_signo);
    CHECK(seen((intptr_t)last.si_value.sival_ptr) == value, "value %p", last.si_value.sival_ptr);
    CHECK(last.si_pid == helper.pid && last.si_uid == getuid(), "sender %d", last.si_pid);
    signals = 0;
    ask(&helper, -1);
    wait_for_signal();
    CHECK(last.si_signo == SIGUSR2 && last.si_code == SI_USER && last.si_pid == helper.pid,
          "a plain signal");
    signals = 0;
    MUST(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = conform.round}));
    wait_for_signal();
    CHECK(last.si_pid == getpid() && last.si_value.sival_int == conform.round &&
              last.si_code == SI_QUEUE,
          "from itself");
    signals = 0;
    MUST(raise(SIGUSR2));
    CHECK(signals == 1 && last.si_code == SI_TKILL && last.si_pid == getpid(), "raised");
  }
  return conform_end();
}
