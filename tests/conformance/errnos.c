/* covers: calls=openat,read,write,newfstatat,ioctl kind=forwarded; calls=unknown kind=comehome;
   moves=away; breaks-when: a call that fails at home fails otherwise, or does not fail, away */
#include <sys/ioctl.h>
#include <termios.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "errnos");
  conform_dir();
  int ends[2];
  MUST(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
  char* unmapped = MUST(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* readonly = MUST(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  MUST(munmap(unmapped, kPage));
  static char long_name[300];
  memset(long_name, 'x', sizeof long_name - 1);
  MUST(symlink("loop", in_dir("loop")));
  MUST(close(MUST(open(in_dir("file"), O_RDWR | O_CREAT, 0600))));
  conform_ready();
  while (conform_next()) {
    struct stat st;
    char byte;
    // Addresses that the program must not or cannot use.
    MUST_FAIL(EFAULT, write(ends[1], unmapped, 10));
    MUST_FAIL(EAGAIN, read(ends[0], &byte, 1));
    CHECK(write(ends[1], "abc", 3) == 3, "write");
    MUST_FAIL(EFAULT, read(ends[0], unmapped, 3));
    char* volatile target = readonly;
    MUST_FAIL(EFAULT, syscall(SYS_newfstatat, AT_FDCWD, "/", target, 0));
    MUST_FAIL(EFAULT, syscall(SYS_openat, AT_FDCWD, unmapped, O_RDONLY, 0));
    MUST_FAIL(EFAULT, syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY, 0));
    while (read(ends[0], &byte, 1) == 1) {
    }
    CHECK(seen(errno) == EAGAIN, "the pipe is empty");
    // Paths.
    MUST_FAIL(ENOENT, open(in_dir("missing"), O_RDONLY));
    MUST_FAIL(ENOENT, stat("", &st));
    MUST_FAIL(ENOTDIR, open(in_dir("file/below"), O_RDONLY));
    MUST_FAIL(ELOOP, open(in_dir("loop"), O_RDONLY));
    MUST_FAIL(ENAMETOOLONG, stat(in_dir(long_name), &st));
    MUST_FAIL(EEXIST, open(in_dir("file"), O_RDWR | O_CREAT | O_EXCL, 0600));
    MUST_FAIL(EISDIR, open(conform.dir, O_WRONLY));
    // Descriptors and numbers.
    MUST_FAIL(EBADF, read(-1, &byte, 1));
    MUST_FAIL(EBADF, read(1000, &byte, 1));
    MUST_FAIL(EBADF, write(ends[0], "x", 1));
    MUST_FAIL(ESPIPE, lseek(ends[0], 0, SEEK_SET));
    struct termios modes;
    MUST_FAIL(ENOTTY, ioctl(ends[0], TCGETS, &modes));
    MUST_FAIL(ENOSYS, syscall(6000, 1, 2, 3));
    CHECK(write(ends[1], unmapped, 0) == 0, "nothing from nowhere");
  }
  return conform_end();
}
