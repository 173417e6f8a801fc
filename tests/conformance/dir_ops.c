/* covers: calls=mkdir,rmdir,rename,link,symlink,readlink,unlink kind=forwarded; breaks-when: a
   change of the name space is not made, made twice, or refused otherwise than at home */
#include "conform.h"

static bool exists(const char* name) {
  struct stat st;
  return lstat(in_dir(name), &st) == 0;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "dir_ops");
  conform_dir();
  conform_ready();
  while (conform_next()) {
    struct stat st;
    MUST(mkdir(in_dir("a"), 0755));
    MUST_FAIL(EEXIST, mkdir(in_dir("a"), 0755));
    int fd = MUST(open(in_dir("a/file"), O_WRONLY | O_CREAT | O_EXCL, 0600));
    MUST(close(fd));
    MUST_FAIL(ENOTEMPTY, rmdir(in_dir("a")));
    MUST(link(in_dir("a/file"), in_dir("hard")));
    MUST_FAIL(EEXIST, link(in_dir("a/file"), in_dir("hard")));
    MUST(stat(in_dir("hard"), &st));
    CHECK(seen((long long)st.st_nlink) == 2, "%d links", (int)st.st_nlink);
    MUST(symlink("a/file", in_dir("soft")));
    char target[100] = {0};
    CHECK(readlink(in_dir("soft"), target, sizeof target) == 6 && strcmp(target, "a/file") == 0,
          "target %s", target);
    CHECK(readlink(in_dir("soft"), target, 3) == 3, "a short target");
    MUST_FAIL(EINVAL, readlink(in_dir("hard"), target, sizeof target));
    MUST(rename(in_dir("a"), in_dir("b")));
    CHECK(!exists("a") && exists("b/file"), "rename of a directory");
    MUST_FAIL(ENOENT, stat(in_dir("soft"), &st));
    MUST_FAIL(ENOENT, rename(in_dir("a"), in_dir("c")));
    // Onto an existing name: that one is gone in the same moment.
    fd = MUST(open(in_dir("other"), O_WRONLY | O_CREAT, 0600));
    MUST(close(fd));
    MUST(rename(in_dir("hard"), in_dir("other")));
    MUST(stat(in_dir("other"), &st));
    CHECK(st.st_nlink == 2 && !exists("hard"), "rename onto a file");
    MUST_FAIL(EISDIR, unlink(in_dir("b")));
    MUST(unlink(in_dir("b/file")));
    MUST_FAIL(ENOENT, unlink(in_dir("b/file")));
    MUST(rmdir(in_dir("b")));
    MUST(unlink(in_dir("soft")));
    MUST(unlink(in_dir("other")));
    CHECK(!exists("b") && !exists("soft") && !exists("other"), "something is left");
  }
  return conform_end();
}
