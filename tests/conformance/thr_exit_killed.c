/* covers: calls=clock_nanosleep kind=forwarded; ends=signal:SIGTERM; moves=away;
   breaks-when: a signal from home that ends the program leaves one of its threads, or its parent
   sees another end */
#include "threads.h"

enum { kReaders = 5 };

static int ends[2];

static void sender(int in, int out) {
  (void)out;
  int64_t signo;
  if (receive_all(in, &signo, sizeof signo)) kill(conform.pid, (int)signo);
}

static void* reader(void* argument) {
  char byte;
  CHECK(read(ends[0], &byte, 1) < 0, "a byte that nobody sent");
  return argument;
}
static void* runner(void* argument) {
  for (;;) nanosleep(&(struct timespec){.tv_nsec = kMs}, NULL);
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_exit_killed");
  struct helper home = conform_helper(sender);
  MUST(pipe2(ends, O_CLOEXEC));
  for (int i = 0; i < kReaders; ++i) thread_start(reader, NULL);
  thread_start(runner, NULL);
  // The first thread does not let it in: one of the others has to.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  conform_ready();
  while (conform_next()) spin_ms(3);
  // The helper has work left: it goes with its pipe.
  printf("ok %s\n", "thr_exit_killed");
  int64_t signo = SIGTERM;
  if (seen(1)) CHECK(send_all(home.to, &signo, sizeof signo), "the helper is gone");
  pause_ms(conform.broken ? 10 : (int)(kLate / kMs));
  return 0;
}
