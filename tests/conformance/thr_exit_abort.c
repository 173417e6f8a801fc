/* covers: calls=clock_nanosleep,prlimit64 kind=forwarded; ends=signal:SIGABRT; moves=away;
   breaks-when: abort() in another thread than the first does not end the program by SIGABRT, as its
   parent sees it */
#include <sys/resource.h>

#include "threads.h"

static int ends[2];

static void* reader(void* argument) {
  char byte;
  CHECK(read(ends[0], &byte, 1) == 1, "read");
  if (seen(1)) abort();
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_exit_abort");
  MUST(pipe2(ends, O_CLOEXEC));
  pthread_t thread = thread_start(reader, NULL);
  conform_ready();
  while (conform_next()) MUST(setrlimit(RLIMIT_CORE, &(struct rlimit){0}));
  conform_ok();
  CHECK(write(ends[1], "x", 1) == 1, "write");
  WORKS(pthread_join(thread, NULL));
  return 0;
}
