// How long the two ends of a body's data channel do without a word of each other
// (docs/protocol.md).
#pragma once

#include <chrono>

namespace drover {

/// What both ends expect of each other while a body is away.
inline constexpr std::chrono::milliseconds kHeartbeatPeriod{1000};
/// A peer that was not heard of for so long is silent: it is said that it is, and nothing new is
/// begun with it. A body that has heard nothing of home since it was committed stops itself then;
/// later it has the lease that came with the commit.
inline constexpr std::chrono::milliseconds kLease{8000};
/// No guest grants more.
inline constexpr std::chrono::milliseconds kLongestLease = std::chrono::hours(1);

}  // namespace drover
