// Transfers that an interruption of ours has cut short, continued.
//
// pipe(7), tty and socket writes of a blocking descriptor wait until all is written, and recv(2)
// with MSG_WAITALL until all is there; a stop by a tracer makes the kernel return what it has
// come to, as a signal would. A program that got no signal is not to see that.
#pragma once

#include "common/process/foreign_memory.h"
#include "common/process/injection.h"
#include "common/process/traced_thread.h"

namespace drover {

/// Whether the call waits until all of what it was given is transferred, if its descriptor is of
/// a kind that waits.
bool may_be_cut_short(int number, std::uint64_t fourth_argument);

/// Whether a descriptor of the process is of a kind that waits.
bool transfers_wait(pid_t pid, int fd);

/// Whether a thread with these registers has just returned from such a call that transferred
/// some, but not all, of what it was given.
Result<bool> is_cut_short(const Registers& registers, const ForeignMemory& memory);

/// The registers with which the thread transfers the rest and then returns from the call as if it
/// had not been interrupted. `tid` is the thread's id at home. Makes or uses a mapping in the
/// process, by `injection`.
Result<Registers> continue_short_transfer(pid_t tid, const Registers& registers,
                                          const ForeignMemory& memory, Injection& injection);

}  // namespace drover
