/* covers: calls=futex,exit kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a thread
   that ends and still owns a robust mutex does not wake the one that waits for it, or that one is
   not told of it */
#include <semaphore.h>

#include "threads.h"

enum { kOwners = 14 };

static pthread_mutex_t locks[kOwners];
static sem_t take[kOwners], end[kOwners], taken;
static pthread_t owners[kOwners];
static int guarded[kOwners];
static int first, last;  // whose owners end in this round

static void* owner(void* argument) {
  int me = (int)unboxed(argument);
  MUST(sem_wait(&take[me]));
  WORKS(pthread_mutex_lock(&locks[me]));
  guarded[me] = 1;
  MUST(sem_post(&taken));
  MUST(sem_wait(&end[me]));
  // The last moments of it: what it changes here, the next owner has to repair.
  guarded[me] = 2;
  return argument;
}

// Both threads of the crew wait for each lock: one is told that its owner ended.
static atomic_int told, served;
static void part(int who, int round) {
  (void)who, (void)round;
  for (int i = first; i < last; ++i) {
    int error = pthread_mutex_lock(&locks[i]);
    if (error == EOWNERDEAD) {
      CHECK(seen(guarded[i]) == 2, "what it guards is %d", guarded[i]);
      guarded[i] = 3;
      WORKS(pthread_mutex_consistent(&locks[i]));
      atomic_fetch_add(&told, 1);
    } else {
      CHECK(error == 0 && guarded[i] == 3, "lock gave %d", error);
    }
    WORKS(pthread_mutex_unlock(&locks[i]));
    atomic_fetch_add(&served, 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_robust");
  pthread_mutexattr_t attributes;
  WORKS(pthread_mutexattr_init(&attributes));
  WORKS(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
  MUST(sem_init(&taken, 0, 0));
  for (int i = 0; i < kOwners; ++i) {
    WORKS(pthread_mutex_init(&locks[i], &attributes));
    MUST(sem_init(&take[i], 0, 0));
    MUST(sem_init(&end[i], 0, 0));
    owners[i] = thread_start(owner, boxed(i));
  }
  crew_start(2, part);
  conform_ready();
  while (conform_next()) {
    first = last;
    last = due(kOwners);
    for (int i = first; i < last; ++i) {
      MUST(sem_post(&take[i]));
      MUST(sem_wait(&taken));
      GIVES(EBUSY, pthread_mutex_trylock(&locks[i]));
    }
    crew_begin();
    pause_ms(4);
    CHECK(atomic_load(&served) == 2 * first, "a lock that is held was given away");
    for (int i = first; i < last; ++i) {
      MUST(sem_post(&end[i]));
      WORKS(pthread_join(owners[i], NULL));
    }
    crew_finish();
    CHECK(seen(atomic_load(&told)) == last, "%d of %d were told", atomic_load(&told), last);
  }
  crew_end();
  return conform_end();
}
