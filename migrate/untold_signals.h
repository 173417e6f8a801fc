// Signals that home has taken from P and not told to its body, when the process is at home again.
#pragma once

#include "migrate/image.h"
#include "remote-syscall/home_server.h"

namespace drover {

/// Adds to the undelivered signals of each thread those that its body has not been told of. If a
/// stop has begun, it has come later than they, and has taken back a SIGCONT among them.
void add_untold(ProcessState& state, const HomeServer& server);

}  // namespace drover
