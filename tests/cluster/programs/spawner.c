// spawner: prints numbered lines as numbers does, each made by a thread of its own, until SIGUSR1.
// A line for which no thread can be had is made later; instead "refused" is printed, once for all
// that follow each other.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_usr1(int number) {
  (void)number;
  stop = 1;
}

static void put(const char* line) {
  size_t length = strlen(line);
  if (write(STDOUT_FILENO, line, length) != (ssize_t)length) _exit(3);
}

static void* next(void* argument) {
  uint64_t* chain = argument;
  *chain = *chain * 6364136223846793005u + 1442695040888963407u;
  return argument;
}

int main(void) {
  const char* every = getenv("EVERY_MS");
  const long ms = every ? atol(every) : 2;
  const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
  struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);

  uint64_t chain = 1;
  unsigned n = 0;
  char line[64];
  int refused = 0;
  while (!stop) {
    snprintf(line, sizeof line, "%u %016lx\n", n, chain);
    pthread_t thread;
    const int error = pthread_create(&thread, NULL, next, &chain);
    if (error != 0 && error != EAGAIN) return 4;
    if (error == EAGAIN && !refused) put("refused\n");
    refused = error == EAGAIN;
    if (!refused) {
      put(line);
      void* result = NULL;
      if (pthread_join(thread, &result) != 0 || result != &chain) return 5;
      ++n;
    }
    nanosleep(&pause, NULL);
  }
  snprintf(line, sizeof line, "end %u\n", n);
  put(line);
  return 0;
}
