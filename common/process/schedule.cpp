#include "common/process/schedule.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace drover {
namespace {

/// Those that have no priorities, which anybody may ask for.
bool is_ordinary(int policy) {
  return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE;
}

}  // namespace

bool is_possible(const Schedule& schedule) { return schedule.nice >= -20 && schedule.nice <= 19; }

Result<Schedule> schedule_of(pid_t tid) {
  Schedule s;
  errno = 0;
  s.nice = getpriority(PRIO_PROCESS, static_cast<id_t>(tid));
  if (errno != 0) return errno_error("get the niceness of thread " + std::to_string(tid));
  s.policy = sched_getscheduler(tid);
  if (s.policy < 0) return errno_error("get the scheduling of thread " + std::to_string(tid));
  s.policy &= ~SCHED_RESET_ON_FORK;
  cpu_set_t set;
  if (sched_getaffinity(tid, sizeof set, &set) == 0) {
    s.cpus = std::bit_cast<CpuSet>(set);
  } else if (errno != EINVAL) {
    return errno_error("get the CPUs of thread " + std::to_string(tid));
  }
  return s;
}

void follow_schedule(pid_t tid, const Schedule& schedule, const CpuSet& most) {
  if (is_ordinary(schedule.policy)) {
    const sched_param none{};
    sched_setscheduler(tid, schedule.policy, &none);
  }
  setpriority(PRIO_PROCESS, static_cast<id_t>(tid), schedule.nice);
  CpuSet cpus;
  std::transform(most.begin(), most.end(), schedule.cpus.begin(), cpus.begin(), std::bit_and());
  const bool any = std::ranges::any_of(cpus, [](std::uint64_t word) { return word != 0; });
  const auto set = std::bit_cast<cpu_set_t>(any ? cpus : most);
  sched_setaffinity(tid, sizeof set, &set);
}

}  // namespace drover
