/* covers: calls=read,openat,lseek,dup2,chdir,clock_nanosleep kind=forwarded; breaks-when: a thread
   is told the error, or the result, of a call of another one */
#include "threads.h"

enum { kThreads = 6, kCalls = 8 };

static int ends[2];
static pthread_barrier_t all;

// Every thread has an error of its own.
static void fail(int who, int* error) {
  char byte;
  errno = 0;
  switch (who) {
    case 0:
      *error = EBADF;
      CHECK(read(700, &byte, 1) == -1, "read");
      break;
    case 1:
      *error = ENOENT;
      CHECK(open("/nowhere/at/all", O_RDONLY) == -1, "open");
      break;
    case 2:
      *error = ESPIPE;
      CHECK(lseek(ends[0], 0, SEEK_SET) == -1, "lseek");
      break;
    case 3:
      *error = EFAULT;
      CHECK(chdir((const char*)16) == -1, "chdir");
      break;
    case 4:
      *error = EAGAIN;
      CHECK(read(ends[0], &byte, 1) == -1, "read");
      break;
    default:
      *error = ENOTDIR;
      CHECK(chdir("/dev/null") == -1, "chdir");
  }
}

static void part(int who, int round) {
  for (int i = 0; i < kCalls; ++i) {
    int error;
    if (i % kThreads == who) pause_ms(1);
    fail(who, &error);
    CHECK(seen(errno) == error, "thread %d: error %d, not %d", who, errno, error);
    // It is kept while the others fail.
    int* place = &errno;
    pthread_barrier_wait(&all);
    CHECK(errno == error && place == &errno, "thread %d: %d instead of %d", who, errno, error);
    // And one after another, as quickly as they can.
    CHECK(dup2(ends[0], 100 + who) == 100 + who, "dup2 in thread %d", who);
    MUST(close(100 + who));
  }
  (void)round;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_errno");
  MUST(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
  WORKS(pthread_barrier_init(&all, NULL, kThreads));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    errno = 12345;
    crew_begin();
    pause_ms(2);
    crew_finish();
    CHECK(errno == 12345, "the first thread's error is %d", errno);
  }
  crew_end();
  return conform_end();
}
