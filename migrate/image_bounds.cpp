#include "migrate/image_bounds.h"

#include <sys/sysinfo.h>

#include <algorithm>

#include "migrate/image.h"
#include "migrate/waiting_image.h"

namespace drover {

Status ImageBounds::take(const Frame& frame, Clock::time_point now) {
  if (!is_of_the_image(frame)) return {};
  const std::uint64_t size = frame.payload.size();
  taken_ += size;
  if (taken_ > most_bytes_) return refusal("the image is larger than this machine's memory");
  const auto earned = Clock::duration(kGrace) * static_cast<std::int64_t>(size) /
                      static_cast<std::int64_t>(kBytesForGrace);
  // What came while we were slow was not late.
  const auto earned_until = std::min(std::max(deadline_, now) + earned, now + kGrace);
  deadline_ = std::max(deadline_, earned_until);
  return {};
}

void ImageBounds::begin_anew(Clock::time_point now, Clock::duration grace) {
  deadline_ = std::max({deadline_, now + kGrace, now + grace});
}

std::chrono::milliseconds ImageBounds::patience(Clock::time_point now) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - now);
  return std::max(left, std::chrono::milliseconds(0));
}

std::uint64_t machine_memory() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return UINT64_MAX;
  return (std::uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
}

}  // namespace drover
