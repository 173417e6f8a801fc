/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: the restartable-sequence area is not
   registered away or after homecoming: its CPU number stays invalid or old */
#include <sched.h>
#include <sys/rseq.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rseq_ids");
  struct rseq* rseq = (struct rseq*)((char*)__builtin_thread_pointer() + __rseq_offset);
  bool registered = __rseq_size != 0;
  unsigned cpus = (unsigned)MUST(sysconf(_SC_NPROCESSORS_CONF));
  conform_ready();
  while (conform_next()) {
    int wrong = 0;
    for (int n = 0; n < 200 && registered; ++n) {
      unsigned before, after;
      MUST(syscall(SYS_getcpu, &before, NULL, NULL));
      uint32_t id = *(volatile uint32_t*)&rseq->cpu_id;
      uint32_t start = *(volatile uint32_t*)&rseq->cpu_id_start;
      MUST(syscall(SYS_getcpu, &after, NULL, NULL));
      CHECK(id < cpus && start < cpus, "cpu_id %u, cpu_id_start %u of %u", id, start, cpus);
      // Going to another CPU and back within these lines is possible, but rare.
      wrong += before == after && id != before;
    }
    CHECK(seen(wrong < 40) == 1, "cpu_id was not the CPU it ran on %d times of 200", wrong);
  }
  return conform_end();
}
