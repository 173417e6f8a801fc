// The versions of what two nodes say to each other, on the data channel and on the control bus
// (docs/protocol.md, "Versions").
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "common/result.h"

namespace drover {

/// Each version speaks the one before it as well, so that a cluster can be upgraded node by node.
inline constexpr std::uint32_t kNewestProtocol = 2;
inline constexpr std::uint32_t kOldestProtocol = 1;

/// A body can be told that its process is stopped, and stands still then.
inline constexpr std::uint32_t kFirstWithStops = 2;

/// The first released version. Its programs do not say what they speak where there is a field for
/// it now: who says nothing speaks this.
inline constexpr std::uint32_t kFirstProtocol = 1;

/// The versions that a node or a program speaks, from `oldest` to `newest`.
struct ProtocolRange {
  std::uint32_t oldest = kOldestProtocol;
  std::uint32_t newest = kNewestProtocol;

  constexpr bool has(std::uint32_t version) const { return oldest <= version && version <= newest; }
  bool operator==(const ProtocolRange&) const = default;
};

/// What a field says that programs of the first version do not know.
constexpr std::uint32_t protocol_said(std::uint32_t field) {
  return field == 0 ? kFirstProtocol : field;
}

/// The versions that both speak; nothing if there is none.
constexpr std::optional<ProtocolRange> common_protocols(ProtocolRange one, ProtocolRange other) {
  const ProtocolRange both{std::max(one.oldest, other.oldest), std::min(one.newest, other.newest)};
  return both.oldest <= both.newest ? std::optional(both) : std::nullopt;
}

/// "version 1 of the protocol", "versions 1 to 2 of the protocol".
inline std::string in_words(ProtocolRange range) {
  const std::string newest = std::to_string(range.newest);
  return (range.oldest == range.newest
              ? "version " + newest
              : "versions " + std::to_string(range.oldest) + " to " + newest) +
         " of the protocol";
}

/// Whether `who`, a program of this version, can speak what it is told to.
inline Status check_spoken(std::uint32_t version, const std::string& who) {
  if (ProtocolRange{}.has(version)) return {};
  return refusal(who + " speaks " + in_words({}) + ", not version " + std::to_string(version));
}

}  // namespace drover
