/* covers: calls=exit,futex kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: the
   thread that joins one that ended is not told, or told another value */
#include "threads.h"

enum { kEnders = 20 };

static int pipes[kEnders][2];
static pthread_t enders[kEnders];
static atomic_int ending;

__attribute__((noinline)) static void leave(intptr_t value) { pthread_exit(boxed(value)); }

// Ends by a return or from deep below, when its pipe says so.
static void* ender(void* argument) {
  intptr_t me = unboxed(argument);
  char order;
  ssize_t n = read(pipes[me][0], &order, 1);
  CHECK(n == 1, "read gave %zd", n);
  intptr_t value = me * 1000003 + 5;
  atomic_fetch_add(&ending, 1);
  if (order == 'l') pause_ms(10);
  if (me % 2) leave(value);
  return boxed(value);
}

static void* nothing(void* argument) { pthread_exit(argument); }

static void join(int which) {
  void* value = NULL;
  struct timespec end = spec_of(now(CLOCK_REALTIME) + 3 * kMs);
  GIVES(EBUSY, pthread_tryjoin_np(enders[which], &value));
  GIVES(ETIMEDOUT, pthread_timedjoin_np(enders[which], &value, &end));
  // Some end when somebody waits for it, some before.
  bool later = which % 3 != 0;
  CHECK(write(pipes[which][1], later ? "l" : "n", 1) == 1, "write");
  if (!later) {
    await_count(&ending, which + 1, "the end");
    pause_ms(4);
  }
  WORKS(pthread_join(enders[which], &value));
  CHECK(seen(unboxed(value)) == which * 1000003 + 5, "thread %d returned %lld", which,
        (long long)unboxed(value));
  printf("thread %d returned %lld\n", which, (long long)unboxed(value));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_end");
  for (int i = 0; i < kEnders; ++i) {
    MUST(pipe2(pipes[i], O_CLOEXEC));
    enders[i] = thread_start(ender, boxed(i));
  }
  // What pthread_exit loads, it loads here.
  WORKS(pthread_join(thread_start(nothing, NULL), NULL));
  conform_ready();
  for (int ended = 0; conform_next();)
    for (; ended < due(kEnders); ++ended) join(ended);
  return conform_end();
}
