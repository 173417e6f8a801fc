// How long home waits for an image, and how much it takes: who sends it may mean ill.
#pragma once

#include <chrono>
#include <cstdint>

#include "common/frame.h"
#include "common/result.h"

namespace drover {

/// While an image comes home, neither the process there nor its body runs. So the guest has to get
/// on with it: kGrace for a start, and then a mebibyte in every kGrace. Only the image itself
/// counts. A link of half a Mbit a second is fast enough, and a fast one gains no time to be spent
/// in silence later.
class ImageBounds {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kGrace{20};
  static constexpr std::uint64_t kBytesForGrace = 1 << 20;

  /// `most_bytes`: what cannot be a process of this machine.
  ImageBounds(Clock::time_point now, std::uint64_t most_bytes, Clock::duration first_grace = kGrace)
      : deadline_(now + first_grace), most_bytes_(most_bytes) {}

  /// To be told of every frame. Fails if the image has become too large.
  Status take(const Frame& frame, Clock::time_point now);
  /// What had to be done took other time than the guest's.
  void begin_anew(Clock::time_point now, Clock::duration grace = kGrace);
  /// How long the next frame may take; 0 if it is too late.
  std::chrono::milliseconds patience(Clock::time_point now) const;

 private:
  Clock::time_point deadline_;
  std::uint64_t most_bytes_;
  std::uint64_t taken_ = 0;
};

/// Bytes of memory and swap that this machine has.
std::uint64_t machine_memory();

}  // namespace drover
