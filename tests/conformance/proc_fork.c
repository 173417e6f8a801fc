/* covers: calls=clone kind=comehome; moves=away; breaks-when: a fork while away does not give a
   child with its parent's memory and descriptors, or the parent's wait does not get it */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_fork");
  static unsigned char data[64 * 1024];
  conform_ready();
  while (conform_next()) {
    fill(data, sizeof data, (uint64_t)conform.round);
    if (conform.round % 8 != 4) continue;
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC));
    pid_t child = MUST(fork());
    if (child == 0) {
      char result = filled(data, sizeof data, (uint64_t)conform.round) && getppid() == conform.pid;
      memset(data, 0, sizeof data);
      if (write(ends[1], &result, 1) != 1) _exit(1);
      _exit(conform.round % 100);
    }
    char result = 0;
    CHECK(read(ends[0], &result, 1) == 1 && result == 1, "what the child saw");
    int status;
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(WIFEXITED(status) && seen(WEXITSTATUS(status)) == conform.round % 100, "status %x",
          status);
    CHECK(filled(data, sizeof data, (uint64_t)conform.round), "the child wrote into the parent");
    MUST(close(ends[0]));
    MUST(close(ends[1]));
    printf("child %d\n", WEXITSTATUS(status));
  }
  return conform_end();
}
