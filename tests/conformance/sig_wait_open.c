/* covers: calls=rt_sigsuspend,ppoll,pselect6 kind=forwarded; breaks-when: a signal that only the
   mask of a call holds back ends that call, is lost, or keeps the process from being moved */
#include <poll.h>
#include <sys/select.h>

#include "conform.h"

static volatile int opened, held_back;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)info, (void)context;
  if (signo == SIGUSR1) ++opened;
  if (signo == SIGUSR2) ++held_back;
}

static void sender(int in, int out) {
  (void)out;
  for (int64_t question; receive_all(in, &question, sizeof question);) {
    for (int i = 0; i < 4; ++i) {
      pause_ms(20);
      kill(conform.pid, SIGCHLD);
      kill(conform.pid, SIGUSR2);
    }
    pause_ms(20);
    kill(conform.pid, SIGUSR1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_wait_open");
  struct helper helper = conform_helper(sender);
  on_signal(SIGUSR1, handler, 0);
  on_signal(SIGUSR2, handler, 0);
  sigset_t one, all_but_one;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  sigfillset(&all_but_one);
  sigdelset(&all_but_one, SIGUSR1);
  conform_ready();
  while (conform_next()) {
    opened = held_back = 0;
    MUST(sigprocmask(SIG_BLOCK, &one, NULL));
    int64_t question = conform.round;
    CHECK(write(helper.to, &question, sizeof question) == sizeof question, "the sender");
    struct timespec long_time = spec_of(kLate);
    int result = conform.round % 3 == 0   ? sigsuspend(&all_but_one)
                 : conform.round % 3 == 1 ? ppoll(NULL, 0, &long_time, &all_but_one)
                                          : pselect(0, NULL, NULL, NULL, &long_time, &all_but_one);
    CHECK(seen(result) == -1 && errno == EINTR && opened == 1, "the wait gave %d", result);
    MUST(sigprocmask(SIG_UNBLOCK, &one, NULL));
    CHECK(held_back > 0, "what the call held back did not come");
  }
  return conform_end();
}
