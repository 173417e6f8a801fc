/* covers: calls=signalfd4,read kind=forwarded; breaks-when: a blocked signal from home is not read
   from a signalfd, or with another sender or value */
#include <sys/signalfd.h>

#include "conform.h"

static void sender(int in, int out) {
  int64_t value;
  while (receive_all(in, &value, sizeof value)) {
    pause_ms((int)(value % 7));
    sigqueue(conform.pid, SIGUSR1, (union sigval){.sival_int = (int)value});
    if (value % 2 == 0) kill(conform.pid, SIGUSR2);
    send_all(out, &value, sizeof value);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "signalfd");
  struct helper helper = conform_helper(sender);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));
  int fd = MUST(signalfd(-1, &set, SFD_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    int64_t value = conform.round;
    CHECK(send_all(helper.to, &value, sizeof value), "the helper is gone");
    struct signalfd_siginfo got;
    CHECK(read(fd, &got, sizeof got) == sizeof got, "read");
    CHECK(got.ssi_signo == SIGUSR1 && got.ssi_code == SI_QUEUE, "signal %u", got.ssi_signo);
    CHECK(seen(got.ssi_int) == conform.round, "value %d", got.ssi_int);
    CHECK((pid_t)got.ssi_pid == helper.pid && got.ssi_uid == getuid(), "the sender");
    CHECK(receive_all(helper.from, &value, sizeof value), "the helper is gone");
    if (conform.round % 2 == 0) {
      CHECK(read(fd, &got, sizeof got) == sizeof got, "read");
      CHECK(got.ssi_signo == SIGUSR2 && got.ssi_code == SI_USER, "signal %u", got.ssi_signo);
    }
    // One raised by the program itself.
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    int other = MUST(signalfd(-1, &one, SFD_NONBLOCK));
    MUST_FAIL(EAGAIN, read(other, &got, sizeof got));
    MUST(kill(getpid(), SIGUSR2));
    CHECK(read(other, &got, sizeof got) == sizeof got && (pid_t)got.ssi_pid == getpid(),
          "a signal from itself");
    MUST(close(other));
  }
  return conform_end();
}
