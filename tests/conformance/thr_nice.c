/* covers: calls=getpriority,setpriority kind=forwarded; breaks-when: a call of one thread
   is made by another one at home, which has a niceness of its own */
#include <sys/resource.h>

#include "threads.h"

enum { kThreads = 5 };

static atomic_int ids[kThreads];

// Nicer in the second half of the rounds; nobody may become less nice.
static int before;
static int niceness(int who, int round) { return before + 2 * who + (round > conform.rounds / 2); }

static void part(int who, int round) {
  if (round == 1) atomic_store(&ids[who], gettid());
  MUST(setpriority(PRIO_PROCESS, 0, niceness(who, round)));
  errno = 0;
  for (int i = 0; i < 5; ++i) {
    int nice = getpriority(PRIO_PROCESS, 0);
    CHECK(seen(nice) == niceness(who, round), "thread %d: %d (%d)", who, nice, errno);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_nice");
  before = getpriority(PRIO_PROCESS, 0);
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    for (int i = 0; i < kThreads; ++i) {
      int nice = getpriority(PRIO_PROCESS, (id_t)atomic_load(&ids[i]));
      CHECK(seen(nice) == niceness(i, conform.round), "thread %d: %d", i, nice);
    }
    CHECK(getpriority(PRIO_PROCESS, 0) == before, "the first thread");
  }
  crew_end();
  return conform_end();
}
