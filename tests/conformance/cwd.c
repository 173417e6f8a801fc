/* covers: calls=getcwd,chdir,fchdir,openat kind=forwarded; breaks-when: the working directory, or
   what relative paths mean, is not that of the process at home */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cwd");
  conform_dir();
  MUST(mkdir(in_dir("a"), 0700));
  MUST(mkdir(in_dir("a/b"), 0700));
  int top = MUST(open(conform.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  char real[PATH_MAX], got[PATH_MAX], wanted[PATH_MAX + 10];
  CHECK(realpath(conform.dir, real) != NULL, "realpath");
  MUST(chdir(conform.dir));
  conform_ready();
  while (conform_next()) {
    CHECK(getcwd(got, sizeof got) != NULL && strcmp(got, real) == 0, "getcwd: %s", got);
    MUST(chdir(conform.round % 2 ? "a/b" : "a"));
    snprintf(wanted, sizeof wanted, "%s/%s", real, conform.round % 2 ? "a/b" : "a");
    pause_ms(4);
    CHECK(getcwd(got, sizeof got) != NULL && seen(strcmp(got, wanted)) == 0, "getcwd: %s", got);
    int fd = MUST(open("here", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    MUST(close(fd));
    strcat(wanted, "/here");
    MUST(access(wanted, F_OK));
    MUST(unlink("here"));
    MUST_FAIL(ENOENT, access(wanted, F_OK));
    // The kernel's own view of it.
    ssize_t size = MUST(readlink("/proc/self/cwd", got, sizeof got - 1));
    got[size] = 0;
    wanted[strlen(wanted) - strlen("/here")] = 0;
    CHECK(strcmp(got, wanted) == 0, "/proc/self/cwd: %s", got);
    MUST_FAIL(ERANGE, getcwd(got, 2) ? 0 : -1);
    MUST_FAIL(ENOENT, chdir("nowhere"));
    MUST(fchdir(top));
  }
  MUST(chdir("/"));
  return conform_end();
}
