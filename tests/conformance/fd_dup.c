/* covers: calls=dup,dup2,dup3,fcntl,close kind=forwarded; breaks-when: a duplicate does not share
   the offset, has another number or other flags than the kernel would give it */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "fd_dup");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(fd < 50, "fd %d", fd);
  conform_ready();
  while (conform_next()) {
    int lowest = MUST(dup(fd));
    CHECK(seen(lowest) == fd + 1, "dup gave %d", lowest);
    CHECK(fcntl(lowest, F_GETFD) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "flags after dup");
    CHECK(dup2(fd, 60) == 60 && fcntl(60, F_GETFD) == 0, "dup2");
    CHECK(dup2(60, 60) == 60, "dup2 on itself");
    MUST_FAIL(EINVAL, dup3(fd, fd, 0));
    CHECK(dup3(fd, 61, O_CLOEXEC) == 61 && fcntl(61, F_GETFD) == FD_CLOEXEC, "dup3");
    CHECK(fcntl(fd, F_DUPFD, 60) == 62 && fcntl(62, F_GETFD) == 0, "F_DUPFD");
    CHECK(fcntl(fd, F_DUPFD_CLOEXEC, 70) == 70 && fcntl(70, F_GETFD) == FD_CLOEXEC,
          "F_DUPFD_CLOEXEC");
    MUST(fcntl(62, F_SETFD, FD_CLOEXEC));
    CHECK(fcntl(62, F_GETFD) == FD_CLOEXEC, "F_SETFD");
    // One description: what one does to the offset, all see.
    const int all[] = {fd, lowest, 60, 61, 62, 70};
    for (int i = 0; i < 6; ++i) {
      CHECK(write(all[i], "12345", 5) == 5, "write");
      CHECK(lseek(all[(i + 1) % 6], 0, SEEK_CUR) == (conform.round - 1) * 30 + (i + 1) * 5,
            "offset through %d", all[(i + 1) % 6]);
    }
    // dup2 closes what was there: the write end of a pipe goes, its reader sees the end.
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC));
    MUST(dup2(fd, ends[1]));
    char byte;
    CHECK(read(ends[0], &byte, 1) == 0, "the pipe is still open");
    MUST(close(ends[0]));
    MUST(close(ends[1]));
    for (int i = 1; i < 6; ++i) MUST(close(all[i]));
    MUST_FAIL(EBADF, fcntl(61, F_GETFD));
    MUST_FAIL(EBADF, dup(61));
    MUST_FAIL(EBADF, dup2(61, 63));
    MUST_FAIL(EBADF, close(61));
  }
  return conform_end();
}
