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
/// What home waits longer than a guest's lease, before it counts on its end: for what the clocks
/// and timers of two nodes may differ by, and for what was on its way when home fell silent.
inline constexpr std::chrono::seconds kMargin{1};
/// No guest grants more.
inline constexpr std::chrono::milliseconds kLongestLease = std::chrono::hours(1);

/// When a body with this lease has surely ended, to which home has not said a word since `silent`,
/// and of which nothing that was said before is still to leave this machine.
inline std::chrono::steady_clock::time_point surely_ended(
    std::chrono::steady_clock::time_point silent, std::chrono::milliseconds lease) {
  return silent + lease + kMargin + lease / 1000;  // clocks may be slewed (adjtimex(2))
}

}  // namespace drover
