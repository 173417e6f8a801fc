/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; breaks-when: a post to a
   semaphore is lost or counts twice, or does not wake the thread that waits for it */
#include <semaphore.h>

#include "threads.h"

enum { kThreads = 6, kHops = 60, kRoom = 3 };

static sem_t turn[kThreads], room;
static uint64_t token = 1;  // belongs to whose turn it is
static atomic_int inside, most;

static void part(int who, int round) {
  for (int hop = who; hop < kHops; hop += kThreads) {
    MUST(sem_wait(&turn[who]));
    MUST_FAIL(EAGAIN, sem_trywait(&turn[who]));
    token = token * 6364136223846793005u + (uint64_t)who;
    if (hop % 20 == round % 20) pause_ms(1);
    if (hop + 1 < kHops) MUST(sem_post(&turn[(who + 1) % kThreads]));
  }
  // A semaphore as a room with a few places.
  for (int i = 0; i < 4; ++i) {
    MUST(sem_wait(&room));
    int now_inside = atomic_fetch_add(&inside, 1) + 1;
    CHECK(now_inside <= kRoom, "%d inside", now_inside);
    if (now_inside > atomic_load(&most)) atomic_store(&most, now_inside);
    pause_ms(1);
    atomic_fetch_sub(&inside, 1);
    MUST(sem_post(&room));
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_sem");
  for (int i = 0; i < kThreads; ++i) MUST(sem_init(&turn[i], 0, 0));
  MUST(sem_init(&room, 0, kRoom));
  crew_start(kThreads, part);
  conform_ready();
  uint64_t expected = 1;
  while (conform_next()) {
    crew_begin();
    MUST(sem_post(&turn[0]));
    crew_finish();
    for (int hop = 0; hop < kHops; ++hop)
      expected = expected * 6364136223846793005u + (uint64_t)(hop % kThreads);
    CHECK((uint64_t)seen((long long)token) == expected, "the token");
    int value;
    MUST(sem_getvalue(&room, &value));
    CHECK(value == kRoom, "%d places are left", value);
    printf("token %016llx\n", (unsigned long long)token);
  }
  CHECK(atomic_load(&most) > 1, "never two in the room");
  crew_end();
  return conform_end();
}
