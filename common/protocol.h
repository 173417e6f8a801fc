// The versions of what two nodes say to each other, on the data channel and on the control bus.
#pragma once

#include <cstdint>

namespace drover {

/// Each version speaks the one before it as well, so that a cluster can be upgraded node by node.
inline constexpr std::uint32_t kNewestProtocol = 2;
inline constexpr std::uint32_t kOldestProtocol = 1;

/// A body can be told that its process is stopped, and stands still then.
inline constexpr std::uint32_t kFirstWithStops = 2;
/// A change of a mask says which signals came before it: the others keep their order (MaskAfter).
inline constexpr std::uint32_t kFirstWithMaskAfter = 2;

}  // namespace drover
