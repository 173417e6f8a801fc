// The threads of a process.
#pragma once

#include <sys/types.h>

#include <vector>

#include "common/result.h"

namespace drover {

/// The ids of a process's threads, the leading thread's first (/proc/PID/task, proc(5)). One that
/// has ended is not among them, but a leading thread stays until all others have ended.
Result<std::vector<pid_t>> threads_of(pid_t pid);

}  // namespace drover
