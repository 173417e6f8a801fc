// How the kernel is to share CPUs out to a thread (sched(7)), of another process.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <array>
#include <cstdint>

#include "common/result.h"

namespace drover {

/// CPUs by their numbers, as cpu_set_t has them.
using CpuSet = std::array<std::uint64_t, CPU_SETSIZE / 64>;
static_assert(sizeof(CpuSet) == sizeof(cpu_set_t));

struct Schedule {
  std::int32_t nice = 0;
  std::int32_t policy = SCHED_OTHER;
  CpuSet cpus{};  ///< on which it may run; none: there are more than we can tell

  bool operator==(const Schedule&) const = default;
};
/// Whether a peer may say so.
bool is_possible(const Schedule& schedule);

Result<Schedule> schedule_of(pid_t tid);

/// Has a thread scheduled so as far as we may: without privileges, none becomes less nice or gets
/// realtime. `most` are the CPUs that it may have here; if there is none of its own among them,
/// it may run on all of those.
void follow_schedule(pid_t tid, const Schedule& schedule, const CpuSet& most);

}  // namespace drover
