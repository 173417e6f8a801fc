/* covers: calls=clock_nanosleep,getppid kind=forwarded; calls=futex,gettid kind=local; breaks-when:
   one of 64 threads is lost, is another one, or has the registers or the stack of another */
#include "threads.h"

enum { kThreads = 64, kPasses = 4 };

static pthread_barrier_t barrier;
static uint64_t values[kThreads];
static pid_t ids[kThreads];
static pid_t parent;

static void part(int who, int round) {
  unsigned char frame[2000];
  uint64_t seed = (uint64_t)(round * kThreads + who);
  fill(frame, sizeof frame, seed);
  if (round == 1) ids[who] = gettid();
  CHECK(seen(gettid()) == ids[who], "thread %d has become %d", who, (int)gettid());
  if ((who + round) % 16 == 0) CHECK(getppid() == parent, "the parent");
  for (int pass = 0; pass < kPasses; ++pass) {
    uint64_t of_pass = seed * kPasses + (uint64_t)pass;
    values[who] = next_random(&of_pass);
    pthread_barrier_wait(&barrier);
    uint64_t sum = 0, expected = 0;
    for (int i = 0; i < kThreads; ++i) {
      sum += values[i];
      uint64_t of_other = (uint64_t)((round * kThreads + i) * kPasses + pass);
      expected += next_random(&of_other);
    }
    CHECK(sum == expected, "the sum in thread %d", who);
    pthread_barrier_wait(&barrier);
  }
  CHECK(filled(frame, sizeof frame, seed), "frame of thread %d", who);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_many");
  parent = getppid();
  WORKS(pthread_barrier_init(&barrier, NULL, kThreads));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) crew_round();
  for (int i = 0; i < kThreads; ++i)
    for (int j = 0; j < i; ++j) CHECK(ids[i] != ids[j], "threads %d and %d are one", i, j);
  crew_end();
  return conform_end();
}
