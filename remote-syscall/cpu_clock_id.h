// The ids of CPU clocks (clock_gettime(2), clock_getcpuclockid(3), pthread_getcpuclockid(3)).
#pragma once

#include <cstdint>
#include <optional>

#include "common/process/cpu_time.h"

namespace drover {

/// Whose CPU time a clock shows.
struct CpuClockId {
  CpuClock clock = CpuClock::kRuntime;
  std::int32_t thread = 0;  ///< 0: the whole process's

  bool operator==(const CpuClockId&) const = default;
};

/// What the id means to thread `caller` of process `pid`, which the kernel has accepted it from;
/// nothing if it is no CPU clock or another process's.
std::optional<CpuClockId> own_cpu_clock(clockid_t id, std::int32_t pid, std::int32_t caller);

}  // namespace drover
