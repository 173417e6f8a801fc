// cores HOW: a process of four threads, each in a function of its own, that dies and leaves a core.
//
// One computes, one waits for a pipe, one for a condition, and the leading one for SIGUSR1. HOW
// says what it comes to by then: fault (the one that computes writes to nowhere), abort (the same
// one calls abort(3)), wait (nothing: somebody else ends it). Prints "ready" when all are where
// they stay.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kFault = 1, kAbort };

static atomic_int what;
static int never[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
// What only its own computation has put into its memory: it is looked up in the core.
uint64_t computed[1000];

__attribute__((noinline)) static void come_to_an_end(int how, const uint64_t* from) {
  if (how == kAbort) abort();
  *(volatile uint64_t*)from[999] = 1;
}

__attribute__((noinline)) static void* computes(void* argument) {
  uint64_t nowhere[1000] = {0};
  while (what == 0) computed[0]++;
  come_to_an_end(what, nowhere);
  return argument;
}

__attribute__((noinline)) static void* reads(void* argument) {
  char byte = 0;
  if (read(never[0], &byte, 1) >= 0) _exit(3);
  return argument;
}

__attribute__((noinline)) static void* waits(void* argument) {
  pthread_mutex_lock(&lock);
  for (;;) pthread_cond_wait(&condition, &lock);
  return argument;
}

int main(int argc, char** argv) {
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, NULL);
  if (argc != 2 || pipe(never) != 0) return 2;
  for (size_t i = 1; i < sizeof computed / sizeof *computed; ++i) {
    computed[i] = i * 6364136223846793005u;
  }
  pthread_t thread;
  pthread_create(&thread, NULL, computes, NULL);
  pthread_create(&thread, NULL, reads, NULL);
  pthread_create(&thread, NULL, waits, NULL);
  usleep(100000);
  if (write(1, "ready\n", 6) != 6) return 3;
  int number = 0;
  for (;;) {
    sigwait(&usr1, &number);
    what = strcmp(argv[1], "fault") == 0 ? kFault : strcmp(argv[1], "abort") == 0 ? kAbort : 0;
  }
}
