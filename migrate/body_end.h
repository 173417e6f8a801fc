// The end of a body, as its guest tells of it; and of one that may be running though home does not
// count on it: the commit of its move has failed.
#pragma once

#include <chrono>
#include <functional>

#include "common/secure_channel.h"

namespace drover {

/// Whether a guest says by this that nothing of its body is left: kEnded or kFailed.
bool tells_end(const Frame& frame);

/// Tells the guest behind `channel` to end its body, and returns when that does not run any more:
/// the guest has said so, or the body's lease is over, which began before home sent its commit at
/// `committed_at` (see Guest::await_commit). Then the channel is closed. `meanwhile` is called
/// about once in kHeartbeatPeriod.
void end_body(SecureChannel& channel, std::chrono::steady_clock::time_point committed_at,
              const std::function<void()>& meanwhile);

}  // namespace drover
