/* covers: calls=read,clock_nanosleep kind=forwarded; breaks-when: a signal for the process that any
   of its threads may take is lost or handled twice, or ends a call that is to go on */
#include <poll.h>

#include "threads.h"

enum { kThreads = 6, kBurst = 12, kMostRounds = 1000 };

static struct helper home;
static pthread_t threads[kThreads];
static int pipes[kThreads][2];
static atomic_int handled[kMostRounds * kBurst], all;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  int number = info->si_value.sival_int;
  if (number >= 0 && number < kMostRounds * kBurst) atomic_fetch_add(&handled[number], 1);
  atomic_fetch_add(&all, 1);
}

// Sends the process signals with the numbers from the one that it reads.
static void sender(int in, int out) {
  int64_t first;
  while (receive_all(in, &first, sizeof first)) {
    int64_t sent = 0;
    for (int i = 0; i < kBurst; ++i) {
      union sigval value = {.sival_int = (int)first + i};
      sent += sigqueue(conform.pid, SIGRTMIN, value) == 0;
      usleep(300);
    }
    send_all(out, &sent, sizeof sent);
  }
}

// Half of them wait for a byte, half of them sleep: the handler's return goes on with that.
static void* worker(void* argument) {
  int me = (int)unboxed(argument);
  char byte = 0;
  if (me % 2) {
    CHECK(read(pipes[me][0], &byte, 1) == 1 && byte == 'e', "read");
    return argument;
  }
  struct pollfd end = {.fd = pipes[me][0], .events = POLLIN};
  while (poll(&end, 1, 0) == 0) pause_ms(3);
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_any");
  home = conform_helper(sender);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
  MUST(sigaction(SIGRTMIN, &action, NULL));
  for (int i = 0; i < kThreads; ++i) {
    MUST(pipe2(pipes[i], O_CLOEXEC));
    threads[i] = thread_start(worker, boxed(i));
  }
  conform_ready();
  while (conform_next()) {
    int first = (conform.round - 1) * kBurst;
    int64_t begun = first;
    CHECK(send_all(home.to, &begun, sizeof begun), "the helper is gone");
    await_count(&all, first + kBurst, "signals");
    int64_t sent = 0;
    for (size_t got = 0; got < sizeof sent;) {
      ssize_t n = read(home.from, (char*)&sent + got, sizeof sent - got);
      CHECK(n > 0, "read gave %zd", n);
      got += (size_t)n;
    }
    CHECK(sent == kBurst, "it sent %d", (int)sent);
    for (int i = first; i < first + kBurst; ++i)
      CHECK(seen(atomic_load(&handled[i])) == 1, "signal %d was handled %d times", i - first,
            atomic_load(&handled[i]));
  }
  CHECK(atomic_load(&all) == conform.rounds * kBurst, "%d signals", atomic_load(&all));
  for (int i = 0; i < kThreads; ++i) {
    MUST(write(pipes[i][1], "e", 1));
    WORKS(pthread_join(threads[i], NULL));
  }
  return conform_end();
}
