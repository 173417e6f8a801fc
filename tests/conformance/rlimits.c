/* covers: calls=prlimit64,getrlimit,setrlimit kind=forwarded; breaks-when: a resource limit is
   lost, or not in force at home */
#include <sys/resource.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rlimits");
  conform_dir();
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit first[RLIM_NLIMITS], got;
  for (int i = 0; i < RLIM_NLIMITS; ++i) MUST(getrlimit((__rlimit_resource_t)i, &first[i]));
  conform_ready();
  int fd = MUST(open(in_dir("data"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  while (conform_next()) {
    for (int i = 0; i < RLIM_NLIMITS; ++i) {
      if (i == RLIMIT_NOFILE || i == RLIMIT_FSIZE) continue;
      MUST(getrlimit((__rlimit_resource_t)i, &got));
      CHECK(got.rlim_cur == first[i].rlim_cur && got.rlim_max == first[i].rlim_max, "limit %d", i);
    }
    struct rlimit files = first[RLIMIT_NOFILE];
    files.rlim_cur = 50 + (rlim_t)conform.round % 50;
    MUST(syscall(SYS_setrlimit, RLIMIT_NOFILE, &files));
    MUST(syscall(SYS_getrlimit, RLIMIT_NOFILE, &got));
    CHECK(seen((long long)got.rlim_cur) == (long long)files.rlim_cur, "RLIMIT_NOFILE");
    MUST_FAIL(EINVAL, fcntl(0, F_DUPFD, (int)files.rlim_cur));
    MUST_FAIL(EBADF, dup2(fd, (int)files.rlim_cur));
    // A file may grow up to its limit, and no further.
    struct rlimit size = {.rlim_cur = 1000, .rlim_max = first[RLIMIT_FSIZE].rlim_max};
    MUST(setrlimit(RLIMIT_FSIZE, &size));
    static char data[1500];
    CHECK(pwrite(fd, data, 1500, 0) == 1000, "a write across the limit");
    MUST_FAIL(EFBIG, pwrite(fd, data, 1, 1000));
    MUST(setrlimit(RLIMIT_FSIZE, &first[RLIMIT_FSIZE]));
    MUST(ftruncate(fd, 0));
    printf("files %d\n", (int)files.rlim_cur);
  }
  return conform_end();
}
