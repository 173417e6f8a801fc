/* covers: calls=clock_nanosleep kind=forwarded; calls=futex,exit kind=local; breaks-when: a
   thread that is cancelled in a call, in a wait for a condition or while it computes does not end
   there, does not clean up, or takes what the call was to give it */
#include "threads.h"

enum { kVictims = 15, kKinds = 5 };

static pthread_t victims[kVictims];
static int pipes[kVictims][2];
static atomic_int begun[kVictims], cleaned[kVictims], late[kVictims];
static pthread_mutex_t lock;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void clean(void* count) { atomic_fetch_add((atomic_int*)count, 1); }
static void unlock(void* mutex) { WORKS(pthread_mutex_unlock(mutex)); }

static void wait_in_kind(int me) {
  char byte;
  switch (me % kKinds) {
    case 0:
      (void)!read(pipes[me][0], &byte, 1);
      break;
    case 1:
      WORKS(pthread_mutex_lock(&lock));
      pthread_cleanup_push(unlock, &lock);
      for (;;) pthread_cond_wait(&never, &lock);
      pthread_cleanup_pop(0);
      break;
    case 2: {
      struct timespec length = spec_of(1000 * kSecond);
      clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &length);
      break;
    }
    case 3:
      CHECK(read(pipes[me][0], &byte, 1) == 1, "its start");
      for (;;) pthread_testcancel();
    default:
      // Not before it says so: the read that it is in goes on.
      WORKS(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL));
      CHECK(read(pipes[me][0], &byte, 1) == 1, "a read that is not to be cancelled");
      atomic_fetch_add(&late[me], 1);
      WORKS(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL));
      pthread_testcancel();
  }
}

static void* victim(void* argument) {
  int me = (int)unboxed(argument);
  pthread_cleanup_push(clean, &cleaned[me]);
  atomic_store(&begun[me], 1);
  wait_in_kind(me);
  pthread_cleanup_pop(0);
  return argument;
}

static void cancel(int which) {
  void* value;
  CHECK(atomic_load(&cleaned[which]) == 0, "thread %d has ended by itself", which);
  if (which % kKinds == 3) {
    // One that computes, from now on.
    CHECK(write(pipes[which][1], "s", 1) == 1, "write");
    pause_ms(4);
  }
  WORKS(pthread_cancel(victims[which]));
  if (which % kKinds == 4) {
    pause_ms(5);
    CHECK(atomic_load(&cleaned[which]) == 0, "it did not want to be cancelled");
    CHECK(write(pipes[which][1], "x", 1) == 1, "write");
  }
  WORKS(pthread_join(victims[which], &value));
  CHECK(seen(value == PTHREAD_CANCELED) == 1, "thread %d returned %p", which, value);
  CHECK(atomic_load(&cleaned[which]) == 1, "thread %d did not clean up", which);
  CHECK(atomic_load(&late[which]) == (which % kKinds == 4), "thread %d", which);
  if (which % kKinds == 0) {
    // Nobody reads it any more: a byte that comes now stays there.
    char byte = 0;
    CHECK(write(pipes[which][1], "y", 1) == 1, "write");
    CHECK(read(pipes[which][0], &byte, 1) == 1 && byte == 'y', "the byte");
  }
  if (which % kKinds == 1) {
    WORKS(pthread_mutex_trylock(&lock));
    WORKS(pthread_mutex_unlock(&lock));
  }
  printf("thread %d was cancelled\n", which);
}

static void* sleep_on(void* argument) {
  for (;;) pause();
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_cancel");
  for (int i = 0; i < kVictims; ++i) {
    MUST(pipe2(pipes[i], O_CLOEXEC));
    victims[i] = thread_start(victim, boxed(i));
    await_count(&begun[i], 1, "its start");
  }
  // What a cancellation loads, it loads here.
  void* value;
  pthread_t first = thread_start(sleep_on, NULL);
  WORKS(pthread_cancel(first));
  WORKS(pthread_join(first, &value));
  CHECK(value == PTHREAD_CANCELED, "the first");
  conform_ready();
  for (int ended = 0; conform_next();)
    for (; ended < due(kVictims); ++ended) cancel(ended);
  return conform_end();
}
