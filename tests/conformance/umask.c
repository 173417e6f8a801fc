/* covers: calls=umask,openat,mkdir kind=forwarded; breaks-when: the umask is lost, or not that with
   which home makes files */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "umask");
  conform_dir();
  mode_t last = 022;
  umask(last);
  conform_ready();
  while (conform_next()) {
    mode_t mask = (mode_t)(conform.round * 11 & 0177);
    CHECK(seen(umask(mask)) == last, "the old one");
    last = mask;
    pause_ms(4);
    struct stat st;
    MUST(close(MUST(open(in_dir("file"), O_WRONLY | O_CREAT | O_EXCL, 0666))));
    MUST(stat(in_dir("file"), &st));
    CHECK((st.st_mode & 0777) == (0666 & ~mask), "mode %o under %o", st.st_mode, mask);
    MUST(mkdir(in_dir("sub"), 0777));
    MUST(stat(in_dir("sub"), &st));
    CHECK((st.st_mode & 0777) == (0777 & ~mask), "mode %o under %o", st.st_mode, mask);
    MUST(unlink(in_dir("file")));
    MUST(rmdir(in_dir("sub")));
    printf("mask %o\n", mask);
  }
  return conform_end();
}
