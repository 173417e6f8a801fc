// The resource limits of another process (getrlimit(2)).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace drover {

/// In the units of the resource.
struct Limit {
  static constexpr std::uint64_t kNone = UINT64_MAX;  // RLIM_INFINITY

  std::uint64_t soft = kNone;
  std::uint64_t hard = kNone;

  bool operator==(const Limit&) const = default;
};

/// Those that count what a process has mapped.
struct MemoryLimits {
  Limit address_space;
  Limit data;
  Limit stack;

  bool operator==(const MemoryLimits&) const = default;
};

/// Its soft limit in the row of that name in /proc/PID/limits: a number or "unlimited"; nothing if
/// it has just ended. prlimit(2) would ask for more rights over it than a deputy has.
std::optional<std::string> soft_limit_of(pid_t pid, std::string_view name);

/// Both limits in a row of the contents of /proc/PID/limits.
std::optional<Limit> limit_in(const std::string& limits, std::string_view name);

/// An error if it has just ended.
Result<Limit> cpu_limit_of(pid_t pid);
Result<MemoryLimits> memory_limits_of(pid_t pid);

}  // namespace drover
