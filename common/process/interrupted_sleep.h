// Sleeps of a given length that a stop of ours has interrupted, continued.
//
// The kernel goes on with them by restart_syscall(2), from what it keeps in the thread itself:
// when the sleep ends, and where in memory the time left is to be written should a signal come.
// Neither moves with the program. So it goes on with a sleep until a point in time, which the
// kernel simply starts again wherever it is, and works out the time left itself.
#pragma once

#include <chrono>
#include <ctime>
#include <optional>

#include "common/process/injection.h"

namespace drover {

/// A relative sleep, from the registers of the call.
struct Sleep {
  clockid_t clock = CLOCK_MONOTONIC;  ///< by which it can be continued
  ForeignAddress length;              ///< struct timespec
  ForeignAddress left;                ///< where the time left goes, or null
};

/// The sleep of a thread that was stopped in it; nothing for any other call, and for those that
/// last until a point in time or are by a clock of CPU time.
std::optional<Sleep> interrupted_sleep(const Registers& registers);

/// The registers with which it sleeps on until the clock says `until`, and then returns from
/// the call that it was in. `tid` is the thread's id at home. Makes or uses a mapping in the
/// process, by `injection`.
Result<Registers> continue_sleep(pid_t tid, const Registers& registers, const Sleep& sleep,
                                 std::chrono::nanoseconds until, const ForeignMemory& memory,
                                 Injection& injection);

}  // namespace drover
