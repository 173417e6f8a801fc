/* covers: calls=getcpu,sched_getaffinity kind=local; calls=clock_nanosleep kind=forwarded;
   breaks-when: the program sees a CPU or node number that its home does not have */
#include <sched.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_ids");
  unsigned cpus = (unsigned)MUST(sysconf(_SC_NPROCESSORS_CONF));
  cpu_set_t first;
  MUST(sched_getaffinity(0, sizeof first, &first));
  conform_ready();
  while (conform_next()) {
    for (int n = 0; n < 500; ++n) {
      unsigned cpu = 12345, node = 12345;
      MUST(n % 8 == 0 ? syscall(SYS_getcpu, &cpu, &node, NULL) : getcpu(&cpu, &node));
      CHECK(seen(cpu < cpus) == 1, "cpu %u of %u", cpu, cpus);
      CHECK(node < 1024, "node %u", node);
      int by_library = MUST(sched_getcpu());
      CHECK((unsigned)by_library < cpus, "sched_getcpu gave %d of %u", by_library, cpus);
      CHECK(CPU_ISSET(cpu, &first), "cpu %u is not among its own", cpu);
    }
    cpu_set_t set;
    MUST(sched_getaffinity(0, sizeof set, &set));
    CHECK(CPU_EQUAL(&set, &first), "another affinity than at home");
  }
  return conform_end();
}
