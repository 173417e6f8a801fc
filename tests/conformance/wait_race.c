/* covers: calls=wait4,read,kill kind=forwarded; breaks-when: a signal that comes together with what
   a call waits for, while that call is held by a move, shows as EINTR instead of the call's result
 */
#include "conform.h"

static volatile bool told, stopped, continued;
static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  if (signo == SIGUSR1) told = true;
  if (signo == SIGCHLD && info->si_code == CLD_STOPPED) stopped = true;
  if (signo == SIGCHLD && info->si_code == CLD_CONTINUED) continued = true;
}

static void await(const volatile bool* signal) {
  while (!*signal) pause_ms(1);
}

// At times that the program does not know, and each time with a signal right after it: a word.
static void sender(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    pause_ms(30 + (int)(question % 4) * 30);
    send_all(out, &question, sizeof question);
    kill(conform.pid, SIGUSR1);
  }
}

static void stopper(int in, int out) {
  (void)out;
  for (int64_t question; receive_all(in, &question, sizeof question);) {
    pause_ms(30 + (int)(question % 4) * 30);
    raise(SIGSTOP);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "wait_race");
  struct helper sending = conform_helper(sender);
  struct helper stopping = conform_helper(stopper);
  on_signal(SIGUSR1, handler, 0);
  on_signal(SIGCHLD, handler, 0);
  conform_ready();
  while (conform_next()) {
    int64_t question = conform.round, answer = 0;
    told = stopped = continued = false;
    CHECK(write(sending.to, &question, sizeof question) == sizeof question, "the sender");
    ssize_t got = read(sending.from, &answer, sizeof answer);
    CHECK(seen(got) == sizeof answer && answer == question, "read gave %zd", got);
    await(&told);
    CHECK(write(stopping.to, &question, sizeof question) == sizeof question, "the stopper");
    int status = 0;
    pid_t child = waitpid(stopping.pid, &status, WUNTRACED);
    CHECK(seen(child) == stopping.pid && WIFSTOPPED(status), "its stop");
    await(&stopped);
    MUST(kill(stopping.pid, SIGCONT));
    await(&continued);
  }
  return conform_end();
}
