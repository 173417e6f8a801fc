/* covers: calls=get_robust_list,futex,exit kind=local; calls=clock_nanosleep kind=forwarded;
   breaks-when: the list of the robust mutexes that a thread owns is lost, so that some are not
   given up when it ends */
#include <semaphore.h>

#include "threads.h"

enum { kOwners = 10, kLocks = 5 };

static pthread_mutex_t locks[kOwners][kLocks];
static sem_t step[kOwners], done;
static pthread_t owners[kOwners];

static void make(pthread_mutex_t* mutex, int which) {
  const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
  pthread_mutexattr_t attributes;
  WORKS(pthread_mutexattr_init(&attributes));
  WORKS(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
  WORKS(pthread_mutexattr_settype(&attributes, types[which % 3]));
  if (which >= 3) WORKS(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
  WORKS(pthread_mutex_init(mutex, &attributes));
}

static void* list_of_this_thread(void) {
  void* head = NULL;
  size_t size = 0;
  MUST(syscall(SYS_get_robust_list, 0, &head, &size));
  CHECK(size == 3 * sizeof(void*), "the size of its head is %zu", size);
  return head;
}

// Takes one lock at each step, then ends.
static void* owner(void* argument) {
  int me = (int)unboxed(argument);
  void* list = list_of_this_thread();
  CHECK(list != NULL, "no list");
  for (int i = 0; i < kLocks; ++i) {
    MUST(sem_wait(&step[me]));
    WORKS(pthread_mutex_lock(&locks[me][i]));
    CHECK(list_of_this_thread() == list, "the list of thread %d", me);
    MUST(sem_post(&done));
  }
  MUST(sem_wait(&step[me]));
  // One is given back, from the middle of the list.
  WORKS(pthread_mutex_unlock(&locks[me][2]));
  return argument;
}

static void check_locks(int of) {
  WORKS(pthread_join(owners[of], NULL));
  for (int i = 0; i < kLocks; ++i) {
    pthread_mutex_t* lock = &locks[of][i];
    int error = pthread_mutex_trylock(lock);
    if (i == 2) {
      CHECK(error == 0, "the one that was given back: %d", error);
      WORKS(pthread_mutex_unlock(lock));
      continue;
    }
    CHECK(seen(error) == EOWNERDEAD, "lock %d of thread %d: %d", i, of, error);
    if (i % 2 == 0) WORKS(pthread_mutex_consistent(lock));
    WORKS(pthread_mutex_unlock(lock));
    // Nobody repaired these: they can never be had again.
    GIVES(i % 2 ? ENOTRECOVERABLE : 0, pthread_mutex_lock(lock));
    if (i % 2 == 0) WORKS(pthread_mutex_unlock(lock));
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_robust_list");
  MUST(sem_init(&done, 0, 0));
  for (int i = 0; i < kOwners; ++i) {
    for (int j = 0; j < kLocks; ++j) make(&locks[i][j], j);
    MUST(sem_init(&step[i], 0, 0));
    owners[i] = thread_start(owner, boxed(i));
  }
  conform_ready();
  for (int steps = 0; conform_next();) {
    for (; steps < due(kOwners * (kLocks + 1)); ++steps) {
      int of = steps / (kLocks + 1);
      MUST(sem_post(&step[of]));
      if (steps % (kLocks + 1) < kLocks)
        MUST(sem_wait(&done));
      else
        check_locks(of);
    }
  }
  return conform_end();
}
