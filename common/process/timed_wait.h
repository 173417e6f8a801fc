// Waits with a limit of time that are made again after a stop of ours: for what is left of the
// limit only. Not those whose limit the kernel itself counts down in memory (select(2), ppoll(2)),
// and those that last until a point in time need none of this.
#pragma once

#include <chrono>

#include "common/process/injection.h"

namespace drover {

/// Whether a thread with these registers was stopped in such a wait and is to make it again.
bool is_timed_wait(const Registers& registers);

/// The registers with which the wait is made again for the rest of its time. It has lasted
/// `so_far`; one that was continued before knows when it ends by itself. `now` is the thread's
/// CLOCK_MONOTONIC, `tid` its id at home. Makes or uses a mapping in the process, by `injection`.
Result<Registers> continue_timed_wait(pid_t tid, const Registers& registers,
                                      std::chrono::nanoseconds so_far, std::chrono::nanoseconds now,
                                      const ForeignMemory& memory, Injection& injection);

}  // namespace drover
