/* covers: calls=flock kind=forwarded; breaks-when: a flock is lost or kept, as a process at home
   sees it, or a blocking one does not wait */
#include <sys/file.h>

#include "conform.h"

// 0: tries and releases; 1: takes it, answers, and releases it a little later.
static void other(int in, int out) {
  int fd = open(in_dir("lock"), O_RDWR | O_CLOEXEC);
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    int64_t answer = flock(fd, question == 0 ? LOCK_EX | LOCK_NB : LOCK_EX) == 0 ? 0 : errno;
    send_all(out, &answer, sizeof answer);
    if (question == 1) pause_ms(12);
    if (answer == 0) flock(fd, LOCK_UN);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "lock_flock");
  conform_dir();
  MUST(close(MUST(open(in_dir("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600))));
  struct helper helper = conform_helper(other);
  // Opened after the fork: a description that the helper shares would stay locked.
  int fd = MUST(open(in_dir("lock"), O_RDWR | O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    MUST(flock(fd, LOCK_EX));
    pause_ms(5);
    CHECK(seen(ask(&helper, 0)) == EWOULDBLOCK, "an exclusive lock is not held");
    MUST(flock(fd, LOCK_SH));
    CHECK(ask(&helper, 0) == EWOULDBLOCK, "a shared lock is not held");
    // A duplicate that goes does not take it along.
    int same = MUST(dup(fd));
    MUST(close(same));
    CHECK(ask(&helper, 0) == EWOULDBLOCK, "the lock went with a duplicate");
    MUST(flock(fd, LOCK_UN));
    CHECK(ask(&helper, 1) == 0, "the lock is still held");
    // It holds the lock now or has given it up again: waiting for it ends.
    MUST(flock(fd, LOCK_EX));
    CHECK(ask(&helper, 0) == EWOULDBLOCK, "a lock that was waited for");
    MUST(close(fd));
    CHECK(ask(&helper, 0) == 0, "the lock outlives its descriptor");
    fd = MUST(open(in_dir("lock"), O_RDWR | O_CLOEXEC));
  }
  return conform_end();
}
