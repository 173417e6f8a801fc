/* covers: calls=rt_sigtimedwait kind=forwarded; breaks-when: a thread that waits for the signals
   that all others block does not get them, in order and with their senders */
#include "threads.h"

static struct helper home;
static atomic_int from_home, from_itself;

static void sender(int in, int out) {
  int64_t value;
  while (receive_all(in, &value, sizeof value)) {
    pause_ms((int)(value % 8));
    sigqueue(conform.pid, SIGRTMIN + 3, (union sigval){.sival_int = (int)value});
    send_all(out, &value, sizeof value);
  }
}

static void signals(sigset_t* set) {
  sigemptyset(set);
  sigaddset(set, SIGRTMIN + 3);
  sigaddset(set, SIGUSR1);
  sigaddset(set, SIGUSR2);
}

static void* waiter(void* argument) {
  sigset_t set;
  signals(&set);
  for (;;) {
    siginfo_t info;
    int signo;
    // A stop may end this wait early even at home (signal(7)); see eintr_quiet.c.
    do {
      signo = sigwaitinfo(&set, &info);
    } while (signo < 0 && errno == EINTR);
    if (signo == SIGRTMIN + 3) {
      int expected = atomic_fetch_add(&from_home, 1) + 1;
      CHECK(info.si_pid == home.pid, "the sender");
      CHECK(seen(info.si_value.sival_int) == expected, "value %d, not %d", info.si_value.sival_int,
            expected);
    } else if (signo == SIGUSR1) {
      CHECK(info.si_pid == conform.pid, "the sender");
      atomic_fetch_add(&from_itself, 1);
    } else {
      CHECK(signo == SIGUSR2, "signal %d", signo);
      return argument;
    }
  }
}

// These have calls of their own that no signal may end.
static void part(int who, int round) {
  (void)round;
  struct timespec length = spec_of((who + 1) * 3 * kMs);
  int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &length);
  CHECK(error == 0, "the sleep of thread %d gave %d", who, error);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_wait");
  home = conform_helper(sender);
  sigset_t set;
  signals(&set);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  pthread_t thread = thread_start(waiter, NULL);
  crew_start(3, part);
  conform_ready();
  while (conform_next()) {
    crew_begin();
    CHECK(ask(&home, conform.round) == conform.round, "the sender");
    MUST(kill(getpid(), SIGUSR1));
    await_count(&from_home, conform.round, "signals from home");
    await_count(&from_itself, conform.round, "signals from itself");
    crew_finish();
  }
  crew_end();
  WORKS(pthread_kill(thread, SIGUSR2));
  WORKS(pthread_join(thread, NULL));
  return conform_end();
}
