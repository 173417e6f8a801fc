// What becomes of a call that a move has disturbed and that the kernel would not take up again
// elsewhere as if nothing had been.
#pragma once

#include <chrono>

#include "remote-syscall/body.h"

namespace drover {

/// Makes a stopped body go on with its call, which has lasted `so_far`, when it runs again: with
/// the rest of a write, a sleep or a wait with a limit. Any other call is left as it is.
Status continue_disturbed_call(const Body& body, std::chrono::nanoseconds so_far);

}  // namespace drover
