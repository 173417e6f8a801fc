/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; calls=exit kind=either;
   moves=away; breaks-when: the first thread cannot end before the others, or the program does not
   end with the last of them */
#include "threads.h"

static int ends[2];
static pthread_t first;

static void* last(void* argument) {
  char byte;
  void* value;
  CHECK(read(ends[0], &byte, 1) == 1, "read");
  WORKS(pthread_join(first, &value));
  CHECK(seen(unboxed(value)) == 4711, "it returned %d", (int)unboxed(value));
  // Alone, and still the process that it was.
  CHECK(getpid() == conform.pid && gettid() != conform.pid, "the process");
  MUST(kill(conform.pid, 0));
  CHECK(write(ends[1], "y", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'y', "its pipe");
  conform_ok();
  return argument;
}

static void* nothing(void* argument) { pthread_exit(argument); }

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_main_ends");
  first = pthread_self();
  MUST(pipe2(ends, O_CLOEXEC));
  // What pthread_exit loads, it loads here.
  WORKS(pthread_join(thread_start(nothing, NULL), NULL));
  WORKS(pthread_detach(thread_start(last, NULL)));
  conform_ready();
  while (conform_next()) spin_ms(3);
  CHECK(write(ends[1], "x", 1) == 1, "write");
  pthread_exit(boxed(4711));
}
