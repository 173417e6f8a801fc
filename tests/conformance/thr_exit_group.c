/* covers: calls=clock_nanosleep,read kind=forwarded; calls=futex kind=local; ends=exit:42;
   moves=away; breaks-when: exit() by another thread than the first does not end all of them,
   whatever they do, or the parent at home sees another status */
#include "threads.h"

static int ends[2], silent[2];
static pthread_mutex_t forever = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool last_round;

static void last_words(void) { printf("atexit\n"); }

// Blocked in a call of home, in a wait for a lock, computing.
static void* reader(void* argument) {
  char byte;
  CHECK(read(silent[0], &byte, 1) < 0, "a byte that nobody sent");
  return argument;
}
static void* waiter(void* argument) {
  WORKS(pthread_mutex_lock(&forever));
  return argument;
}
static void* runner(void* argument) {
  for (;;) {
    spin_ms(3);
    pause_ms(3);
  }
  return argument;
}

static void* ender(void* argument) {
  char byte;
  while (!atomic_load(&last_round)) {
    CHECK(write(ends[1], "x", 1) == 1, "write");
    CHECK(read(ends[0], &byte, 1) == 1, "read");
    pause_ms(5);
  }
  exit((int)seen(42));
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_exit_group");
  atexit(last_words);
  MUST(pipe2(ends, O_CLOEXEC));
  MUST(pipe2(silent, O_CLOEXEC));
  WORKS(pthread_mutex_lock(&forever));
  thread_start(reader, NULL);
  thread_start(waiter, NULL);
  thread_start(runner, NULL);
  pthread_t thread = thread_start(ender, NULL);
  conform_ready();
  while (conform_next()) spin_ms(3);
  conform_ok();
  atomic_store(&last_round, true);
  // It never returns, nor does this.
  pthread_join(thread, NULL);
  return 1;
}
