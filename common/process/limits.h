// The resource limits of another process (getrlimit(2)).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace drover {

/// Its soft limit in the row of that name in /proc/PID/limits: a number or "unlimited"; nothing if
/// it has just ended. prlimit(2) would ask for more rights over it than a deputy has.
std::optional<std::string> soft_limit_of(pid_t pid, std::string_view name);

}  // namespace drover
