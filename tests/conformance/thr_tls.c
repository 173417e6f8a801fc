/* covers: calls=clock_nanosleep kind=forwarded; calls=exit kind=local; breaks-when: a thread has
   the variables of another one, or those that the C library keeps for it are not destroyed at its
   end */
#include <semaphore.h>

#include "threads.h"

enum { kThreads = 5, kEnders = 12, kKeys = 3 };

static __thread uint64_t counter;
static __thread unsigned char big[3000];
static __thread int own_number = 77;
static pthread_key_t keys[kKeys];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t go[kEnders];
static int destroyed[kEnders][kKeys];
static atomic_int onces;

static void do_once(void) { atomic_fetch_add(&onces, 1); }

// The value is a place in `destroyed`. The first key sets its value again, once.
static void destroy(void* value) {
  int* place = value;
  CHECK(++*place <= 2, "it is destroyed too often");
  if (*place == 1 && (place - &destroyed[0][0]) % kKeys == 0)
    WORKS(pthread_setspecific(keys[0], value));
}

static void part(int who, int round) {
  static int values[kThreads][kKeys];
  WORKS(pthread_once(&once, do_once));
  if (round == 1) {
    CHECK(counter == 0 && own_number == 77, "the first values");
    own_number = who;
    fill(big, sizeof big, (uint64_t)who);
    for (int k = 0; k < kKeys; ++k) {
      CHECK(pthread_getspecific(keys[k]) == NULL, "key %d has a value", k);
      WORKS(pthread_setspecific(keys[k], &values[who][k]));
    }
  }
  for (int i = 0; i < 20000; ++i) counter = counter * 5 + (uint64_t)own_number;
  pause_ms(who);
  CHECK(seen(own_number) == who, "the number of thread %d", who);
  CHECK(filled(big, sizeof big, (uint64_t)who), "the array of thread %d", who);
  for (int k = 0; k < kKeys; ++k)
    CHECK(pthread_getspecific(keys[k]) == &values[who][k], "key %d of thread %d", k, who);
  static uint64_t expected[kThreads];
  for (int i = 0; i < 20000; ++i) expected[who] = expected[who] * 5 + (uint64_t)who;
  CHECK(counter == expected[who], "the counter of thread %d", who);
  // At the end of the crew there is nothing to destroy.
  if (round == conform.rounds)
    for (int k = 0; k < kKeys; ++k) WORKS(pthread_setspecific(keys[k], NULL));
}

static void* ender(void* argument) {
  int me = (int)unboxed(argument);
  for (int k = 0; k < kKeys; ++k) WORKS(pthread_setspecific(keys[k], &destroyed[me][k]));
  own_number = me;
  MUST(sem_wait(&go[me]));
  CHECK(own_number == me, "the number");
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_tls");
  for (int k = 0; k < kKeys; ++k) WORKS(pthread_key_create(&keys[k], destroy));
  pthread_t enders[kEnders];
  for (int i = 0; i < kEnders; ++i) {
    MUST(sem_init(&go[i], 0, 0));
    enders[i] = thread_start(ender, boxed(i));
  }
  crew_start(kThreads, part);
  conform_ready();
  for (int ended = 0; conform_next();) {
    crew_begin();
    for (; ended < due(kEnders); ++ended) {
      for (int k = 0; k < kKeys; ++k) CHECK(destroyed[ended][k] == 0, "key %d", k);
      MUST(sem_post(&go[ended]));
      WORKS(pthread_join(enders[ended], NULL));
      for (int k = 0; k < kKeys; ++k)
        CHECK(seen(destroyed[ended][k]) == (k == 0 ? 2 : 1), "key %d: destroyed %d times", k,
              destroyed[ended][k]);
    }
    crew_finish();
    CHECK(atomic_load(&onces) == 1, "once: %d times", atomic_load(&onces));
  }
  crew_end();
  return conform_end();
}
