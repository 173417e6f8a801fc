/* covers: calls=fcntl kind=either; moves=away; breaks-when: status flags set through one
   descriptor are not those of the description */
#include "conform.h"

static int the_pipe[2];

static void looker(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    question = fcntl(the_pipe[0], F_GETFL);
    send_all(out, &question, sizeof question);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "fd_flags");
  conform_dir();
  MUST(pipe2(the_pipe, O_CLOEXEC));
  struct helper helper = conform_helper(looker);
  int fd = MUST(open(in_dir("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  int same = MUST(dup(fd));
  conform_ready();
  while (conform_next()) {
    int wanted = conform.round % 2 ? O_NONBLOCK : 0;
    int flags = MUST(fcntl(the_pipe[0], F_GETFL));
    CHECK((flags & O_ACCMODE) == O_RDONLY, "access mode");
    MUST(fcntl(the_pipe[0], F_SETFL, (flags & ~O_NONBLOCK) | wanted));
    CHECK(seen(fcntl(the_pipe[0], F_GETFL) & O_NONBLOCK) == wanted, "O_NONBLOCK");
    CHECK((ask(&helper, 0) & O_NONBLOCK) == wanted, "O_NONBLOCK as home sees it");
    MUST(fcntl(fd, F_SETFL, conform.round % 2 ? O_APPEND : 0));
    CHECK((fcntl(same, F_GETFL) & (O_APPEND | O_ACCMODE)) ==
              ((conform.round % 2 ? O_APPEND : 0) | O_RDWR),
          "O_APPEND through the duplicate");
    MUST_FAIL(EINVAL, fcntl(fd, 99999));
  }
  return conform_end();
}
