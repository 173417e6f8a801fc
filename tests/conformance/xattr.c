/* covers: calls=setxattr,getxattr,listxattr,removexattr,fgetxattr kind=forwarded; breaks-when: an
   extended attribute is lost or has another value (or the file system begins to refuse them) */
#include <sys/xattr.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "xattr");
  conform_dir();
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  // Where there are none, all calls have to go on saying so.
  bool none = setxattr(in_dir("data"), "user.probe", "", 0, 0) != 0 && errno == ENOTSUP;
  conform_ready();
  while (conform_next()) {
    char value[500], got[500];
    const char* path = in_dir("data");
    size_t size = 10 + (size_t)conform.round * 7 % 400;
    fill(value, size, (uint64_t)conform.round);
    if (none) {
      MUST_FAIL(ENOTSUP, setxattr(path, "user.test", value, size, 0));
      MUST_FAIL(ENOTSUP, getxattr(path, "user.test", got, sizeof got));
      ssize_t names = listxattr(path, got, sizeof got);
      CHECK(names >= 0 || errno == ENOTSUP, "listxattr");
      if (removexattr(path, "user.test") == 0) CHECK(false, "removexattr");
      MUST_FAIL(ENOTSUP, fgetxattr(fd, "user.test", got, sizeof got));
      CHECK(seen(0) == 0, "none");
      continue;
    }
    MUST(setxattr(path, "user.test", value, size, XATTR_CREATE));
    MUST_FAIL(EEXIST, setxattr(path, "user.test", value, size, XATTR_CREATE));
    CHECK(seen(getxattr(path, "user.test", NULL, 0)) == (long long)size, "size");
    CHECK(getxattr(path, "user.test", got, sizeof got) == (ssize_t)size &&
              memcmp(got, value, size) == 0,
          "value");
    memset(got, 0, sizeof got);
    CHECK(fgetxattr(fd, "user.test", got, sizeof got) == (ssize_t)size &&
              memcmp(got, value, size) == 0,
          "value by descriptor");
    MUST_FAIL(ERANGE, getxattr(path, "user.test", got, 3));
    ssize_t names = MUST(listxattr(path, got, sizeof got));
    bool listed = false;
    for (char* at = got; at < got + names; at += strlen(at) + 1)
      listed |= strcmp(at, "user.test") == 0;
    CHECK(listed, "not listed");
    MUST(removexattr(path, "user.test"));
    MUST_FAIL(ENODATA, getxattr(path, "user.test", got, sizeof got));
  }
  return conform_end();
}
