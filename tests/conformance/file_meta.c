/* covers: calls=newfstatat,statx,chmod,fchmod,utimensat,access,statfs,fstatfs kind=forwarded;
   breaks-when: modes, times, sizes or identities of a file are not those it has at home */
#include <sys/statfs.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_meta");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(write(fd, "0123456789", 10) == 10, "write");
  struct stat first;
  MUST(stat(in_dir("data"), &first));
  struct statfs fs_first;
  MUST(statfs(conform.dir, &fs_first));
  conform_ready();
  while (conform_next()) {
    mode_t mode = (mode_t)(0400 | (conform.round * 37 & 0377));
    if (conform.round % 2)
      MUST(chmod(in_dir("data"), mode));
    else
      MUST(fchmod(fd, mode));
    struct timespec times[2] = {{.tv_sec = 1000000 + conform.round, .tv_nsec = 123456789},
                                {.tv_sec = 2000000 + conform.round, .tv_nsec = 987654321}};
    MUST(utimensat(AT_FDCWD, in_dir("data"), times, 0));
    struct stat st, by_fd;
    MUST(stat(in_dir("data"), &st));
    MUST(fstat(fd, &by_fd));
    CHECK(seen(st.st_mode) == (S_IFREG | mode), "mode %o", st.st_mode);
    CHECK(st.st_ino == first.st_ino && st.st_dev == first.st_dev, "its identity");
    CHECK(st.st_size == 10 && st.st_uid == geteuid() && st.st_nlink == 1, "size or owner");
    CHECK(st.st_atim.tv_sec == times[0].tv_sec && st.st_mtim.tv_sec == times[1].tv_sec &&
              st.st_mtim.tv_nsec == times[1].tv_nsec,
          "times");
    CHECK(by_fd.st_ino == st.st_ino && by_fd.st_mode == st.st_mode, "fstat");
    struct statx stx;
    MUST(statx(AT_FDCWD, in_dir("data"), 0, STATX_BASIC_STATS, &stx));
    CHECK(stx.stx_ino == st.st_ino && stx.stx_mode == st.st_mode && stx.stx_size == 10 &&
              stx.stx_mtime.tv_sec == times[1].tv_sec,
          "statx");
    MUST(access(in_dir("data"), R_OK));
    MUST_FAIL(ENOENT, access(in_dir("nothing"), F_OK));
    struct statfs fs, fs_fd;
    MUST(statfs(in_dir("data"), &fs));
    MUST(fstatfs(fd, &fs_fd));
    CHECK(fs.f_type == fs_first.f_type && fs.f_bsize == fs_first.f_bsize &&
              fs.f_namelen == fs_first.f_namelen && fs_fd.f_type == fs.f_type,
          "statfs");
    printf("mode %o\n", st.st_mode);
  }
  return conform_end();
}
