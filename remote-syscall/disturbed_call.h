// What becomes of a call that a move has disturbed and that the kernel would not take up again
// elsewhere as if nothing had been.
#pragma once

#include <chrono>

#include "remote-syscall/body.h"

namespace drover {

/// Makes a stopped thread of the body go on with its call, which has lasted `so_far`, when it runs
/// again: with the rest of a write, a sleep or a wait with a limit. Any other call is left as it
/// is.
Status continue_disturbed_call(const Body& body, const BodyThread& thread,
                               std::chrono::nanoseconds so_far);

/// Whether a stopped thread of process `pid` is in a call that it goes on with when it runs, and of
/// which home hears then: not a wait for a futex, which the body's own kernel goes on with.
bool is_in_forwarded_call(const Registers& registers, std::int32_t pid);

}  // namespace drover
