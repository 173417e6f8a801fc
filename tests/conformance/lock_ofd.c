/* covers: calls=fcntl kind=forwarded; breaks-when: an open file description's lock is lost, kept,
   or treated as the process's own */
#include "conform.h"

static int set_lock(int fd, int type, off_t from, off_t size, int command) {
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = from, .l_len = size};
  return fcntl(fd, command, &lock);
}

static int shared;

// 0: is byte 10 free for another description; 1: unlocks it through the description it shares.
static void other(int in, int out) {
  int fd = open(in_dir("lock"), O_RDWR | O_CLOEXEC);
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    if (question == 1) {
      question = set_lock(shared, F_UNLCK, 0, 0, F_OFD_SETLK);
    } else {
      question = set_lock(fd, F_WRLCK, 10, 1, F_OFD_SETLK) == 0 ? 0 : errno;
      if (question == 0) set_lock(fd, F_UNLCK, 10, 1, F_OFD_SETLK);
    }
    send_all(out, &question, sizeof question);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "lock_ofd");
  conform_dir();
  shared = MUST(open(in_dir("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  struct helper helper = conform_helper(other);
  conform_ready();
  while (conform_next()) {
    MUST(set_lock(shared, F_WRLCK, 0, 20, F_OFD_SETLK));
    pause_ms(5);
    CHECK(seen(ask(&helper, 0)) == EAGAIN, "the lock is not held");
    int second = MUST(open(in_dir("lock"), O_RDWR | O_CLOEXEC));
    MUST_FAIL(EAGAIN, set_lock(second, F_WRLCK, 5, 1, F_OFD_SETLK));
    struct flock lock = {.l_type = F_WRLCK, .l_start = 5, .l_len = 1};
    MUST(fcntl(second, F_OFD_GETLK, &lock));
    CHECK(lock.l_type == F_WRLCK && lock.l_pid == -1 && lock.l_start == 0 && lock.l_len == 20,
          "who holds it");
    MUST(close(second));
    CHECK(ask(&helper, 0) == EAGAIN, "the lock went with another description");
    if (conform.round % 2) {
      CHECK(ask(&helper, 1) == 0, "unlock through the shared description");
    } else {
      MUST(set_lock(shared, F_UNLCK, 0, 20, F_OFD_SETLKW));
    }
    CHECK(ask(&helper, 0) == 0, "the lock is still held");
  }
  return conform_end();
}
