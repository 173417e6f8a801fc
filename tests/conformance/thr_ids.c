/* covers: calls=gettid,getpid,tgkill,futex kind=local; calls=getppid,clock_nanosleep
   kind=forwarded; breaks-when: a thread has another id than before, cannot be reached by it, or one
   of no thread reaches something */
#include "threads.h"

enum { kThreads = 6 };

static atomic_int ids[kThreads];
static pid_t parent;

static void part(int who, int round) {
  if (round == 1) {
    atomic_store(&ids[who], gettid());
    return;
  }
  CHECK(seen(gettid()) == atomic_load(&ids[who]), "thread %d has become %d", who, (int)gettid());
  CHECK(getpid() == conform.pid && getppid() == parent, "the process in thread %d", who);
  CHECK(gettid() != getpid(), "it is the first thread");
  for (int other = 0; other < kThreads; ++other) {
    MUST(syscall(SYS_tgkill, conform.pid, atomic_load(&ids[other]), 0));
    MUST(syscall(SYS_tkill, atomic_load(&ids[other]), 0));
    WORKS(pthread_kill(crew.thread[other], 0));
  }
  // Of another process it is not.
  MUST_FAIL(ESRCH, syscall(SYS_tgkill, parent, atomic_load(&ids[who]), 0));
  MUST_FAIL(EINVAL, syscall(SYS_tgkill, conform.pid, 0, 0));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_ids");
  parent = getppid();
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    CHECK(gettid() == conform.pid, "the first thread is %d", (int)gettid());
    for (int i = 0; i < kThreads; ++i)
      for (int j = 0; j < i; ++j)
        CHECK(seen(atomic_load(&ids[i]) == atomic_load(&ids[j])) == 0, "threads %d and %d", i, j);
  }
  crew_end();
  return conform_end();
}
