/* covers: calls=wait4,waitid,kill kind=forwarded; breaks-when: SIGCHLD of a child at home, its exit
   status, its stops and continuations do not reach the program */
#include "conform.h"

static volatile int signals;
static volatile int pid_seen, code_seen, status_seen;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  pid_seen = info->si_pid;
  code_seen = info->si_code;
  status_seen = info->si_status;
  ++signals;
}

static void wait_for_signal(void) {
  int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
  while (signals == 0) {
    CHECK(now(CLOCK_MONOTONIC) < give_up, "no SIGCHLD");
    pause_ms(1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_chld");
  // One child a round: each exits with the number it is given, all read from one pipe.
  int orders[2];
  MUST(pipe2(orders, O_CLOEXEC));
  for (int i = 0; i < conform.rounds; ++i) {
    if (MUST(fork()) != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(orders[1]);
    unsigned char order;
    if (read(orders[0], &order, 1) != 1) _exit(0);
    if (order % 5 == 4) raise(SIGTERM);
    _exit(order);
  }
  pid_t stopper = MUST(fork());
  if (stopper == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  on_signal(SIGCHLD, handler, 0);
  conform_ready();
  while (conform_next()) {
    signals = 0;
    unsigned char order = (unsigned char)(conform.round % 100);
    CHECK(write(orders[1], &order, 1) == 1, "write");
    wait_for_signal();
    int child = pid_seen, status;
    if (order % 5 == 4) {
      CHECK(code_seen == CLD_KILLED && status_seen == SIGTERM, "code %d", code_seen);
      CHECK(waitpid(child, &status, 0) == child, "waitpid");
      CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "status %x", status);
    } else {
      CHECK(code_seen == CLD_EXITED && seen(status_seen) == order, "status %d", status_seen);
      siginfo_t info = {0};
      MUST(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT));
      CHECK(info.si_pid == child && info.si_status == order, "waitid");
      CHECK(waitpid(-1, &status, WNOHANG) == child, "waitpid");
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == order, "status %x", status);
    }
    CHECK(waitpid(-1, &status, WNOHANG) == 0, "another child ended");
    if (conform.round % 3 == 0) {
      signals = 0;
      MUST(kill(stopper, SIGSTOP));
      CHECK(waitpid(stopper, &status, WUNTRACED) == stopper && WIFSTOPPED(status), "its stop");
      wait_for_signal();
      CHECK(pid_seen == stopper && code_seen == CLD_STOPPED, "SIGCHLD of a stop");
      signals = 0;
      MUST(kill(stopper, SIGCONT));
      CHECK(waitpid(stopper, &status, WCONTINUED) == stopper && WIFCONTINUED(status), "goes on");
      wait_for_signal();
      CHECK(code_seen == CLD_CONTINUED, "SIGCHLD of a continuation");
    }
  }
  signal(SIGCHLD, SIG_DFL);
  MUST(kill(stopper, SIGKILL));
  int status;
  CHECK(waitpid(stopper, &status, 0) == stopper && WTERMSIG(status) == SIGKILL, "its end");
  MUST_FAIL(ECHILD, waitpid(-1, &status, 0));
  return conform_end();
}
