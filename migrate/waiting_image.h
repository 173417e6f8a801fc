// The image of a body on its way home, kept aside until all of it has come: until then what the
// process was when it left stays as it was (migrate/kept_process.h).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "common/frame.h"
#include "common/result.h"

namespace drover {

class WaitingImage {
 public:
  /// So many bytes of it at most.
  explicit WaitingImage(std::uint64_t most_bytes) : room_(most_bytes) {}

  /// Puts a frame aside, if it is a part of an image. False: it is none, or there is no room for
  /// it.
  bool put(Frame& frame);
  bool empty() const { return frames_.empty(); }
  /// The oldest of what was put aside.
  std::optional<Frame> next();

 private:
  std::deque<Frame> frames_;
  std::uint64_t room_;
};

/// Whether the frame carries a part of a process's image.
bool is_of_the_image(const Frame& frame);

/// Bytes of memory that this program may take without harm to others: of its machine's, and of
/// what its control groups allow.
std::uint64_t free_memory();
/// Of those bytes, what one memory control group and those above it leave: `directory` is its own,
/// which ends the search where there is no limit to be read. Either version of cgroups(7).
std::uint64_t free_in_cgroup(const std::string& directory);

}  // namespace drover
