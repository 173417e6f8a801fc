/* covers: calls=read,signalfd4 kind=forwarded; breaks-when: the thread that reads a signalfd does
   not get the signals that home, another thread or it itself sent */
#include <sys/signalfd.h>

#include "threads.h"

static struct helper home;
static int fd;
static atomic_int of_home, of_process, of_thread;

static void sender(int in, int out) {
  int64_t value;
  while (receive_all(in, &value, sizeof value)) {
    sigqueue(conform.pid, SIGRTMIN + 4, (union sigval){.sival_int = (int)value});
    send_all(out, &value, sizeof value);
  }
}

static void* reader(void* argument) {
  for (;;) {
    struct signalfd_siginfo got;
    ssize_t n = read(fd, &got, sizeof got);
    CHECK(n == sizeof got, "read gave %zd", n);
    if (got.ssi_signo == (uint32_t)SIGRTMIN + 4) {
      int expected = atomic_fetch_add(&of_home, 1) + 1;
      CHECK((pid_t)got.ssi_pid == home.pid && got.ssi_code == SI_QUEUE, "the sender");
      CHECK(seen(got.ssi_int) == expected, "value %d, not %d", got.ssi_int, expected);
    } else if (got.ssi_signo == SIGUSR1) {
      CHECK((pid_t)got.ssi_pid == conform.pid && got.ssi_code == SI_USER, "the process");
      atomic_fetch_add(&of_process, 1);
    } else if (got.ssi_signo == SIGUSR2) {
      CHECK((pid_t)got.ssi_pid == conform.pid && got.ssi_code == SI_TKILL, "the thread");
      atomic_fetch_add(&of_thread, 1);
    } else {
      CHECK(got.ssi_signo == SIGTERM, "signal %u", got.ssi_signo);
      return argument;
    }
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_signalfd");
  home = conform_helper(sender);
  sigset_t set;
  sigemptyset(&set);
  const int all[] = {SIGRTMIN + 4, SIGUSR1, SIGUSR2, SIGTERM};
  for (int i = 0; i < 4; ++i) sigaddset(&set, all[i]);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  fd = MUST(signalfd(-1, &set, SFD_CLOEXEC));
  pthread_t thread = thread_start(reader, NULL);
  conform_ready();
  while (conform_next()) {
    CHECK(ask(&home, conform.round) == conform.round, "the sender");
    MUST(kill(getpid(), SIGUSR1));
    WORKS(pthread_kill(thread, SIGUSR2));
    await_count(&of_home, conform.round, "signals of home");
    await_count(&of_process, conform.round, "signals of the process");
    await_count(&of_thread, conform.round, "signals of the thread");
    // What is for this thread the other one does not read.
    WORKS(pthread_kill(pthread_self(), SIGUSR2));
    pause_ms(2);
    int own = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo got;
    CHECK(read(own, &got, sizeof got) == sizeof got && got.ssi_signo == SIGUSR2, "its own");
    MUST_FAIL(EAGAIN, read(own, &got, sizeof got));
    MUST(close(own));
    CHECK(seen(atomic_load(&of_thread)) == conform.round, "the reader took it");
  }
  MUST(kill(getpid(), SIGTERM));
  WORKS(pthread_join(thread, NULL));
  return conform_end();
}
