/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; breaks-when: two threads
   hold one mutex, a waiter is not woken, or a mutex of some kind forgets its owner */
#include "threads.h"

enum { kThreads = 8, kLoops = 120, kKinds = 4 };

static pthread_mutex_t mutexes[kKinds], held;
static long counts[kKinds];
static int inside[kKinds];

static void enter(int kind) {
  WORKS(pthread_mutex_lock(&mutexes[kind]));
  CHECK(seen(inside[kind]++) == 0, "mutex %d is held twice", kind);
}
static void leave(int kind) {
  CHECK(--inside[kind] == 0, "mutex %d", kind);
  WORKS(pthread_mutex_unlock(&mutexes[kind]));
}

static void part(int who, int round) {
  GIVES(EBUSY, pthread_mutex_trylock(&held));
  GIVES(EPERM, pthread_mutex_unlock(&held));
  for (int i = 0; i < kLoops; ++i) {
    int kind = (who + i) % kKinds;
    enter(kind);
    long count = counts[kind];
    if (kind == 1) {
      WORKS(pthread_mutex_lock(&mutexes[kind]));
      WORKS(pthread_mutex_trylock(&mutexes[kind]));
    }
    if (kind == 2) GIVES(EDEADLK, pthread_mutex_lock(&mutexes[kind]));
    // Some hold it long enough for all others to wait in the kernel.
    if (i % 40 == round % 40) pause_ms(1);
    if (kind == 1) {
      WORKS(pthread_mutex_unlock(&mutexes[kind]));
      WORKS(pthread_mutex_unlock(&mutexes[kind]));
    }
    counts[kind] = count + 1;
    leave(kind);
  }
}

static void make(pthread_mutex_t* mutex, int type) {
  pthread_mutexattr_t attributes;
  WORKS(pthread_mutexattr_init(&attributes));
  WORKS(pthread_mutexattr_settype(&attributes, type));
  WORKS(pthread_mutex_init(mutex, &attributes));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_mutex");
  make(&mutexes[0], PTHREAD_MUTEX_NORMAL);
  make(&mutexes[1], PTHREAD_MUTEX_RECURSIVE);
  make(&mutexes[2], PTHREAD_MUTEX_ERRORCHECK);
  make(&mutexes[3], PTHREAD_MUTEX_ADAPTIVE_NP);
  make(&held, PTHREAD_MUTEX_ERRORCHECK);
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    WORKS(pthread_mutex_lock(&held));
    crew_round();
    GIVES(EDEADLK, pthread_mutex_lock(&held));
    WORKS(pthread_mutex_unlock(&held));
    for (int kind = 0; kind < kKinds; ++kind) {
      long expected = (long)conform.round * kThreads * kLoops / kKinds;
      CHECK(seen(counts[kind]) == expected, "%ld instead of %ld", counts[kind], expected);
    }
  }
  crew_end();
  return conform_end();
}
