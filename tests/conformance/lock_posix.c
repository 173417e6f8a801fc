/* covers: calls=fcntl kind=forwarded; breaks-when: a POSIX lock is lost or kept, belongs to another
   pid as home sees it, or its range is wrong */
#include "conform.h"

static int set_lock(int fd, int type, off_t from, off_t size, int command) {
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = from, .l_len = size};
  return fcntl(fd, command, &lock);
}

// Who holds a lock that is in the way of a write lock of this byte; 0 for nobody.
static void other(int in, int out) {
  int fd = open(in_dir("lock"), O_RDWR | O_CLOEXEC);
  int64_t byte;
  while (receive_all(in, &byte, sizeof byte)) {
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte < 0 ? -byte : byte, .l_len = 1};
    int64_t answer;
    if (byte < 0) {
      // Holds that byte for a while.
      answer = fcntl(fd, F_SETLKW, &lock);
      send_all(out, &answer, sizeof answer);
      pause_ms(10);
      lock.l_type = F_UNLCK;
      fcntl(fd, F_SETLK, &lock);
      continue;
    }
    answer = fcntl(fd, F_GETLK, &lock) != 0 ? -1 : lock.l_type == F_UNLCK ? 0 : lock.l_pid;
    send_all(out, &answer, sizeof answer);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "lock_posix");
  conform_dir();
  int fd = MUST(open(in_dir("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  struct helper helper = conform_helper(other);
  conform_ready();
  while (conform_next()) {
    MUST(set_lock(fd, F_WRLCK, 100, 50, F_SETLK));
    MUST(set_lock(fd, F_RDLCK, 120, 10, F_SETLK));
    MUST(set_lock(fd, F_UNLCK, 140, 5, F_SETLK));
    pause_ms(5);
    CHECK(seen(ask(&helper, 100)) == conform.pid, "byte 100");
    CHECK(ask(&helper, 125) == conform.pid && ask(&helper, 149) == conform.pid, "byte 125, 149");
    CHECK(ask(&helper, 99) == 0 && ask(&helper, 150) == 0 && ask(&helper, 142) == 0, "free bytes");
    CHECK(ask(&helper, -300) == 0, "it takes byte 300");
    int refused = set_lock(fd, F_WRLCK, 300, 1, F_SETLK);
    CHECK(refused == 0 || errno == EAGAIN || errno == EACCES, "byte 300");
    MUST(set_lock(fd, F_WRLCK, 300, 1, F_SETLKW));
    CHECK(ask(&helper, 300) == conform.pid, "a lock that was waited for");
    // POSIX: closing any descriptor of the file gives up all its locks.
    int another = MUST(open(in_dir("lock"), O_RDONLY | O_CLOEXEC));
    MUST(close(another));
    CHECK(ask(&helper, 100) == 0 && ask(&helper, 300) == 0, "locks outlive a close");
  }
  return conform_end();
}
