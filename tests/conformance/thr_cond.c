/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; breaks-when: a thread that
   waits for a condition is not woken by its signal or broadcast, or what threads hand each other
   comes twice, not at all or out of order */
#include "threads.h"

enum { kProducers = 3, kConsumers = 3, kEach = 40, kPlaces = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static struct item { int producer, number; } queue[kPlaces];
static unsigned head, tail;
static int taken[kProducers];  // the number that comes next from each

static void produce(int who, int round) {
  for (int i = 0; i < kEach; ++i) {
    if (i % 16 == round % 16) pause_ms(1);
    WORKS(pthread_mutex_lock(&lock));
    while (tail - head == kPlaces) WORKS(pthread_cond_wait(&not_full, &lock));
    queue[tail++ % kPlaces] = (struct item){who, (round - 1) * kEach + i};
    // Nobody is missed by either.
    WORKS(i % 2 ? pthread_cond_signal(&not_empty) : pthread_cond_broadcast(&not_empty));
    WORKS(pthread_mutex_unlock(&lock));
  }
}

static void consume(int round) {
  for (int i = 0; i < kEach; ++i) {
    WORKS(pthread_mutex_lock(&lock));
    while (head == tail) WORKS(pthread_cond_wait(&not_empty, &lock));
    struct item item = queue[head++ % kPlaces];
    CHECK(seen(item.number) == taken[item.producer]++, "%d of producer %d", item.number,
          item.producer);
    WORKS(i % 2 ? pthread_cond_signal(&not_full) : pthread_cond_broadcast(&not_full));
    WORKS(pthread_mutex_unlock(&lock));
    if (i % 16 == 7 - round % 8) pause_ms(1);
  }
}

static void part(int who, int round) {
  if (who < kProducers)
    produce(who, round);
  else
    consume(round);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_cond");
  crew_start(kProducers + kConsumers, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    CHECK(head == tail, "%u are left", tail - head);
    for (int i = 0; i < kProducers; ++i)
      CHECK(taken[i] == conform.round * kEach, "%d came from producer %d", taken[i], i);
  }
  crew_end();
  return conform_end();
}
