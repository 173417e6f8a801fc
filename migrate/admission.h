// Whether a body may come here: what this machine is, and the rules.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/membership.h"
#include "common/result.h"
#include "migrate/peer.pb.h"

namespace drover {

/// This machine as a body sees it. Read once: it does not change while the system is up.
peer::Machine own_machine();

/// This node's rules for guests, and how things stand here now.
struct HostPolicy {
  std::vector<std::string> guest_zones;
  bool block = false;
  std::size_t max_guests = 0;
};
struct HostState {
  std::size_t guests = 0;
  std::uint64_t available_memory = 0;  ///< bytes
  std::int64_t pid_max = 0;
  std::uint32_t lowest_cpu = 0;  ///< the lowest CPU id that guests may run on
};
/// Reads the three facts below /proc; `guests` is the caller's to fill in.
Result<HostState> read_host_state();

/// Takes the body in, or says why not: "does not take guests" and the like, to be read after
/// the node's name. `from` is the home node as the membership list has it.
Status admit_body(const peer::PrepareBody& body, const Member& from, const HostPolicy& policy,
                  const HostState& state, const peer::Machine& own);

/// How far two wall clocks differ at the least, if the peer answered with `theirs` somewhere
/// between `asked` and `answered` by ours.
std::chrono::nanoseconds least_clock_skew(std::chrono::nanoseconds asked,
                                          std::chrono::nanoseconds theirs,
                                          std::chrono::nanoseconds answered);
/// Beyond it programs would see times jump when they move.
inline constexpr std::chrono::milliseconds kMostClockSkew{500};

/// CLOCK_REALTIME.
std::chrono::nanoseconds wall_clock();

}  // namespace drover
