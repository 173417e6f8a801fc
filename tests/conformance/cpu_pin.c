/* covers: calls=sched_setaffinity,sched_getaffinity kind=forwarded; calls=getcpu kind=local;
   breaks-when: a thread that is bound to a CPU runs on another one, though there is that one, or
   its binding is lost */
#include <sched.h>

#include "threads.h"

enum { kThreads = 3 };

static cpu_set_t all;
static int cpus[CPU_SETSIZE], count;

static void bound_to(int cpu) {
  cpu_set_t got;
  CPU_ZERO(&got);
  MUST(sched_getaffinity(0, sizeof got, &got));
  CHECK(CPU_COUNT(&got) == 1 && CPU_ISSET((size_t)cpu, &got), "bound to %d CPUs", CPU_COUNT(&got));
  for (int i = 0; i < 50; ++i) {
    int on = MUST(sched_getcpu());
    CHECK(seen(on) == cpu, "on CPU %d, not %d", on, cpu);
  }
}

static void part(int who, int round) {
  static __thread int mine = -1;
  if (mine >= 0) bound_to(mine);  // since the last round, wherever it was
  mine = cpus[(who + round) % count];
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)mine, &set);
  MUST(sched_setaffinity(0, sizeof set, &set));
  bound_to(mine);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_pin");
  MUST(sched_getaffinity(0, sizeof all, &all));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET((size_t)cpu, &all)) cpus[count++] = cpu;
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    // The first thread has all of them, and what is made by it inherits that.
    cpu_set_t got, none, wrong;
    MUST(sched_getaffinity(0, sizeof got, &got));
    CHECK(CPU_EQUAL(&got, &all), "the first thread's");
    MUST(sched_setaffinity(0, sizeof all, &all));
    CPU_ZERO(&none);
    MUST_FAIL(EINVAL, sched_setaffinity(0, sizeof none, &none));
    CPU_ZERO(&wrong);
    CPU_SET(CPU_SETSIZE - 1, &wrong);
    MUST_FAIL(EINVAL, sched_setaffinity(0, sizeof wrong, &wrong));
    MUST_FAIL(ESRCH, sched_setaffinity(INT_MAX, sizeof all, &all));
    MUST_FAIL(EFAULT, syscall(SYS_sched_setaffinity, 0, sizeof all, (void*)1));
  }
  crew_end();
  return conform_end();
}
