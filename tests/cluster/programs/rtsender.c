// rtsender PID SEED: queues realtime signals of several numbers to rtorder, those of each number
// numbered from 0, one by one and in bursts, until its standard input ends; says how many. Never do
// more than a few hundred wait for the process's user.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { kNumbers = 6, kMostWaiting = 300 };

// How many signals wait for the user of the process: the line SigQ of its status.
static int waiting(pid_t pid) {
  char line[256];
  int number = 0;
  snprintf(line, sizeof line, "/proc/%d/status", pid);
  FILE* status = fopen(line, "r");
  if (!status) exit(3);
  while (fgets(line, sizeof line, status)) {
    if (sscanf(line, "SigQ: %d", &number) == 1) break;
  }
  fclose(status);
  return number;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const pid_t pid = atoi(argv[1]);
  unsigned chance = (unsigned)atoi(argv[2]);
  unsigned next[kNumbers] = {0};
  unsigned long sent = 0;
  struct pollfd end = {.fd = 0, .events = POLLIN};
  while (poll(&end, 1, 0) == 0) {
    if (waiting(pid) > kMostWaiting) {
      poll(&end, 1, 1);
      continue;
    }
    const int burst = rand_r(&chance) % 10 == 0 ? 15 : 1;
    for (int i = 0; i < burst;) {
      const int which = rand_r(&chance) % kNumbers;
      const union sigval value = {.sival_int = (int)next[which]};
      if (sigqueue(pid, SIGRTMIN + which, value) == 0) {
        ++next[which];
        ++sent;
        ++i;
      } else if (errno != EAGAIN) {
        return 3;
      }
    }
    const struct timespec pause = {0, 1000000 + rand_r(&chance) % 3 * 1000000};
    nanosleep(&pause, NULL);
  }
  printf("%lu\n", sent);
  return 0;
}
