// stuck PATH: threads of which one may hang in a write to PATH while the others go on.
//
// All say what they do in lines; the first is the process's id. SIGUSR2: the writer writes a byte,
// and says "written". SIGUSR1: the leading thread says where the file's position is, "at N".
// SIGHUP: the leading thread writes a byte too, and says "written"; from then on SIGUSR1 asks how
// many SIGRTMIN have been handled, "got N": by a thread that blocks and unblocks it all the time.
// Another thread says "tick" ten times a second.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int file;
static atomic_int handled;

static void say(const char* what) { dprintf(1, "%s\n", what); }

static void say_number(const char* what, long number) { dprintf(1, "%s %ld\n", what, number); }

static int await(const sigset_t* signals) {
  int got;
  if (sigwait(signals, &got) != 0) exit(2);
  return got;
}

static void write_byte(void) {
  if (write(file, "x", 1) != 1) exit(3);
  say("written");
}

static void* run_writer(void* unused) {
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, SIGUSR2);
  for (;;) {
    await(&own);
    write_byte();
  }
  return unused;
}

static void* run_ticker(void* unused) {
  for (;;) {
    const struct timespec pause = {0, 100000000};
    nanosleep(&pause, NULL);
    say("tick");
  }
  return unused;
}

static void* run_flipper(void* unused) {
  sigset_t flipped;
  sigemptyset(&flipped);
  sigaddset(&flipped, SIGRTMIN);
  for (;;) {
    pthread_sigmask(SIG_UNBLOCK, &flipped, NULL);
    pthread_sigmask(SIG_BLOCK, &flipped, NULL);
  }
  return unused;
}

static void handle(int signal) {
  (void)signal;
  atomic_fetch_add(&handled, 1);
}

static void start(void* (*run)(void*)) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, NULL) != 0) exit(4);
}

int main(int count, char** arguments) {
  if (count != 2) return 1;
  file = open(arguments[1], O_CREAT | O_RDWR, 0644);
  if (file < 0 || write(file, "hello", 5) != 5) return 1;
  sigset_t own, all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  sigemptyset(&own);
  sigaddset(&own, SIGUSR1);
  sigaddset(&own, SIGHUP);
  const struct sigaction counted = {.sa_handler = handle, .sa_flags = SA_RESTART};
  sigaction(SIGRTMIN, &counted, NULL);
  start(run_writer);
  start(run_ticker);
  say_number("pid", getpid());
  for (int asks_signals = 0;;) {
    if (await(&own) == SIGHUP) {
      if (!asks_signals) start(run_flipper);
      asks_signals = 1;
      say("writing");
      write_byte();
    } else if (asks_signals) {
      say_number("got", atomic_load(&handled));
    } else {
      say_number("at", lseek(file, 0, SEEK_CUR));
    }
  }
}
