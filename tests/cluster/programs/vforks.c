// vforks COUNT: so many threads that each wait for a child of vfork(2), which nothing but its end
// interrupts, and one before and one after them that say "tick NAME" a hundred times a second.
//
// Its process id comes first. It ends once the children have ended, which SIGUSR1 to them does.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void* run_ticker(void* name) {
  for (;;) {
    const struct timespec pause = {0, 10000000};
    nanosleep(&pause, NULL);
    dprintf(1, "tick %s\n", (const char*)name);
  }
  return NULL;
}

static void* run_parent(void* unused) {
  const pid_t child = vfork();
  if (child == 0) {
    for (;;) pause();
  }
  if (child < 0) exit(2);
  return unused;
}

static pthread_t start(void* (*run)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, argument) != 0) exit(3);
  return thread;
}

int main(int count, char** arguments) {
  if (count != 2) return 1;
  const int parents = atoi(arguments[1]);
  pthread_t threads[parents];
  dprintf(1, "pid %d\n", getpid());
  start(run_ticker, "early");
  for (int i = 0; i < parents; ++i) threads[i] = start(run_parent, NULL);
  start(run_ticker, "late");
  for (int i = 0; i < parents; ++i) pthread_join(threads[i], NULL);
  return 0;
}
