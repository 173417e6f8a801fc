/* covers: calls=wait4 kind=forwarded; breaks-when: a blocking wait for a child at home does not end
   with it, or its status or resource usage are lost */
#include <sys/resource.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_wait");
  int orders[2];
  MUST(pipe2(orders, O_CLOEXEC));
  for (int i = 0; i < conform.rounds; ++i) {
    if (MUST(fork()) != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(orders[1]);
    unsigned char order;
    if (read(orders[0], &order, 1) != 1) _exit(0);
    spin_ms(order % 3);
    pause_ms(order % 10);
    _exit(order);
  }
  conform_ready();
  while (conform_next()) {
    unsigned char order = (unsigned char)(conform.round % 250);
    int status;
    CHECK(waitpid(-1, &status, WNOHANG) == 0, "a child ended by itself");
    CHECK(write(orders[1], &order, 1) == 1, "write");
    struct rusage usage;
    memset(&usage, 0xff, sizeof usage);
    pid_t child = wait4(-1, &status, 0, &usage);
    CHECK(child > 0 && WIFEXITED(status), "wait4 gave %d, status %x", child, status);
    CHECK(seen(WEXITSTATUS(status)) == order, "status %d", WEXITSTATUS(status));
    CHECK(usage.ru_utime.tv_sec >= 0 && usage.ru_utime.tv_sec < 100 && usage.ru_maxrss > 0,
          "usage");
    MUST_FAIL(ESRCH, kill(child, 0));
  }
  int status;
  MUST_FAIL(ECHILD, wait4(-1, &status, 0, NULL));
  return conform_end();
}
