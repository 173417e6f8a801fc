/* covers: calls=futex kind=comehome; moves=away; breaks-when: a mutex with priority inheritance,
   whose owner the kernel keeps by its thread id, is held twice or not handed on */
#include "threads.h"

enum { kThreads = 4, kTurns = 3 };

static pthread_mutex_t lock;
static int inside, count;

static void part(int who, int round) {
  (void)who, (void)round;
  for (int i = 0; i < kTurns; ++i) {
    WORKS(pthread_mutex_lock(&lock));
    CHECK(seen(inside++) == 0, "it is held twice");
    // So long that the others have to wait in the kernel.
    pause_ms(1);
    ++count;
    --inside;
    WORKS(pthread_mutex_unlock(&lock));
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_pi");
  pthread_mutexattr_t attributes;
  WORKS(pthread_mutexattr_init(&attributes));
  WORKS(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
  WORKS(pthread_mutex_init(&lock, &attributes));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    if (conform.round % 8 != 4) continue;
    // Held by this thread while they come: it is the owner that they find.
    WORKS(pthread_mutex_lock(&lock));
    crew_begin();
    pause_ms(2);
    CHECK(seen(inside) == 0, "it is held twice");
    WORKS(pthread_mutex_unlock(&lock));
    crew_finish();
    CHECK(count == (conform.round / 8 + 1) * kThreads * kTurns, "%d turns", count);
  }
  crew_end();
  return conform_end();
}
