/* covers: calls=openat,mkdirat,renameat2,linkat,symlinkat,readlinkat,unlinkat,faccessat2
   kind=forwarded; breaks-when: paths relative to a directory descriptor lead elsewhere */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "dir_at");
  conform_dir();
  int dir = MUST(open(conform.dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    MUST(mkdirat(dir, "sub", 0700));
    int sub = MUST(openat(dir, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int fd = MUST(openat(sub, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    CHECK(write(fd, "text", 4) == 4, "write");
    MUST(close(fd));
    MUST(linkat(sub, "file", dir, "hard", 0));
    MUST(symlinkat("sub/file", dir, "soft"));
    char text[20] = {0};
    CHECK(readlinkat(dir, "soft", text, sizeof text) == 8, "readlinkat");
    fd = MUST(openat(dir, "soft", O_RDONLY | O_CLOEXEC));
    CHECK(seen(read(fd, text, sizeof text)) == 4 && memcmp(text, "text", 4) == 0, "through a link");
    MUST(close(fd));
    MUST_FAIL(ELOOP, openat(dir, "soft", O_RDONLY | O_NOFOLLOW));
    MUST(syscall(SYS_renameat2, dir, "hard", sub, "moved", 0));
    MUST_FAIL(EEXIST, syscall(SYS_renameat2, sub, "moved", sub, "file", RENAME_NOREPLACE));
    MUST(syscall(SYS_faccessat2, sub, "moved", R_OK | W_OK, AT_EACCESS));
    MUST_FAIL(ENOENT, faccessat(dir, "hard", F_OK, 0));
    MUST_FAIL(ENOTDIR, openat(dir, "soft/x", O_RDONLY));
    MUST(unlinkat(sub, "moved", 0));
    MUST(unlinkat(sub, "file", 0));
    MUST(unlinkat(dir, "soft", 0));
    MUST(unlinkat(dir, "sub", AT_REMOVEDIR));
    // The directory is gone, its descriptor still is one.
    MUST_FAIL(ENOENT, openat(sub, "file", O_RDWR | O_CREAT, 0600));
    MUST(close(sub));
    MUST_FAIL(EBADF, openat(sub, "file", O_RDONLY));
  }
  return conform_end();
}
