/* covers: calls=execve kind=comehome; moves=away; breaks-when: an exec while away does not start
   the new image with its arguments, environment, pid and open descriptors */
#include "conform.h"

// Every few rounds it executes itself; --state ROUND,PID,FD carries on.
int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_exec");
  int pid = conform.pid, fd = -1;
  for (int i = 1; i + 1 < argc; ++i)
    if (strcmp(argv[i], "--state") == 0)
      CHECK(sscanf(argv[i + 1], "%d,%d,%d", &conform.round, &pid, &fd) == 3, "state");
  if (fd < 0) {
    int ends[2];
    MUST(pipe(ends));
    CHECK(write(ends[1], &conform.pid, sizeof conform.pid) == sizeof conform.pid, "write");
    MUST(close(ends[1]));
    fd = ends[0];
    conform_ready();
  } else {
    CHECK(seen(getpid()) == pid, "pid %d, not %d", getpid(), pid);
    char wanted[20];
    snprintf(wanted, sizeof wanted, "%d", conform.round);
    CHECK(getenv("ROUND") != NULL && strcmp(getenv("ROUND"), wanted) == 0, "environment");
    sigset_t got;
    MUST(sigprocmask(SIG_BLOCK, NULL, &got));
    CHECK(sigismember(&got, SIGUSR2) == 1, "the mask");
    struct sigaction action;
    MUST(sigaction(SIGUSR1, NULL, &action));
    CHECK(action.sa_handler == SIG_IGN, "an ignored signal");
  }
  while (conform_next()) {
    if (conform.round % 10 != 6) continue;
    char state[60], rounds[20], round[20];
    snprintf(state, sizeof state, "%d,%d,%d", conform.round, pid, fd);
    snprintf(rounds, sizeof rounds, "%d", conform.rounds);
    snprintf(round, sizeof round, "%d", conform.round);
    setenv("ROUND", round, 1);
    signal(SIGUSR1, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    MUST_FAIL(ENOENT, execl("/nonexistent/program", "program", NULL));
    MUST(execl("/proc/self/exe", argv[0], "--rounds", rounds, "--state", state, NULL));
  }
  pid_t first = 0;
  CHECK(read(fd, &first, sizeof first) == sizeof first && first == getpid(), "the first one's pid");
  return conform_end();
}
