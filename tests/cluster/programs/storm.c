// storm PID SEED: stops and continues a process without end, a SIGCONT last, until its standard
// input ends; says how often.
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned chance;

// The pauses: none, or so short that what is done about the signal is under way, or long enough.
static void wait_a_little(void) {
  static const long us[] = {0, 0, 0, 5, 20, 60, 150, 1000, 5000};
  const long ns = us[(unsigned)rand_r(&chance) % (sizeof us / sizeof *us)] * 1000;
  if (ns < 1000000) {
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < ns);
    return;
  }
  const struct timespec t = {0, ns};
  nanosleep(&t, NULL);
}

int main(int argc, char** argv) {
  static const int stops[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
  if (argc != 3) return 2;
  const pid_t pid = atoi(argv[1]);
  chance = (unsigned)atoi(argv[2]);
  unsigned times = 0;
  struct pollfd end = {.fd = 0, .events = POLLIN};
  while (poll(&end, 1, 0) == 0 && kill(pid, stops[(unsigned)rand_r(&chance) % 4]) == 0) {
    wait_a_little();
    kill(pid, SIGCONT);
    wait_a_little();
    ++times;
  }
  printf("%u\n", times);
  return 0;
}
