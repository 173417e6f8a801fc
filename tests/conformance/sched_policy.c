/* covers: calls=sched_setscheduler,sched_setparam,sched_setattr,setpriority kind=forwarded;
   breaks-when: how a thread is scheduled is not what was asked for, or another thread's */
#include <sys/resource.h>

#include "threads.h"

enum { kThreads = 3 };

struct attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

static void part(int who, int round) {
  struct sched_param none = {0};
  int policy = (who + round) % 2 ? SCHED_BATCH : SCHED_OTHER;
  MUST(sched_setscheduler(0, policy, &none));
  CHECK(seen(MUST(sched_getscheduler(0))) == policy, "thread %d: its policy", who);
  MUST(sched_setparam(0, &none));
  // Only ever nicer: nobody may become less nice.
  struct attributes attributes = {.size = sizeof attributes};
  MUST(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0));
  CHECK((int)attributes.policy == policy, "thread %d: its policy, by its attributes", who);
  int nice = who + (round > conform.rounds / 2);
  attributes.nice = nice;
  attributes.flags = 0;
  MUST(syscall(SYS_sched_setattr, 0, &attributes, 0));
  errno = 0;
  int got = getpriority(PRIO_PROCESS, 0);
  CHECK(errno == 0 && seen(got) == nice, "thread %d: its niceness is %d, not %d", who, got, nice);
  MUST(setpriority(PRIO_PROCESS, (id_t)gettid(), nice));
  struct sched_param high = {.sched_priority = 200};
  MUST_FAIL(EINVAL, sched_setscheduler(0, SCHED_FIFO, &high));
  MUST_FAIL(EINVAL, sched_setscheduler(0, 77, &none));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sched_policy");
  CHECK(getpriority(PRIO_PROCESS, 0) == 0, "it does not begin with niceness 0");
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    CHECK(MUST(sched_getscheduler(0)) == SCHED_OTHER, "the first thread's");
    CHECK(getpriority(PRIO_PROCESS, 0) == 0, "the first thread's niceness");
  }
  crew_end();
  return conform_end();
}
