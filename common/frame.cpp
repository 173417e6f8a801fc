#include "common/frame.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace drover {
namespace {

// What an empty frame costs in the queue, so that a flood of them counts too.
constexpr std::size_t kFrameOverhead = 64;

}  // namespace

std::array<std::byte, kFrameHeaderSize> frame_header(std::uint16_t type, std::size_t size) {
  const auto length = static_cast<std::uint32_t>(size);
  std::array<std::byte, kFrameHeaderSize> header{};
  std::memcpy(header.data(), &length, sizeof length);
  std::memcpy(header.data() + sizeof length, &type, sizeof type);
  return header;
}

Status FrameAssembler::feed(ByteView data) {
  try {
    while (!data.empty()) {
      if (header_filled_ < kFrameHeaderSize) {
        const std::size_t n = std::min(data.size(), kFrameHeaderSize - header_filled_);
        std::memcpy(header_.data() + header_filled_, data.data(), n);
        header_filled_ += n;
        data = data.subspan(n);
        if (header_filled_ < kFrameHeaderSize) break;
        DROVER_CHECK(begin_frame());
      }
      const std::size_t n = std::min(data.size(), missing_);
      current_.payload.insert(current_.payload.end(), data.begin(), data.begin() + n);
      missing_ -= n;
      data = data.subspan(n);
      if (missing_ == 0) end_frame();
    }
  } catch (const std::bad_alloc&) {
    return Error{ENOMEM, "receive a frame"};
  }
  return {};
}

std::optional<Frame> FrameAssembler::next() {
  if (complete_.empty()) return std::nullopt;
  Frame frame = std::move(complete_.front());
  complete_.pop_front();
  queued_bytes_ -= frame.payload.size() + kFrameOverhead;
  return frame;
}

Status FrameAssembler::begin_frame() {
  std::uint32_t length = 0;
  std::uint16_t zero = 0;
  std::memcpy(&length, header_.data(), sizeof length);
  std::memcpy(&current_.type, header_.data() + 4, sizeof current_.type);
  std::memcpy(&zero, header_.data() + 6, sizeof zero);
  if (zero != 0) return refusal("malformed frame header");
  if (length > kMaxFrame)
    return refusal("frame of " + std::to_string(length) + " bytes is larger than allowed");
  current_.payload.reserve(length);  // not resize: the memory is touched once, when data comes
  missing_ = length;
  return {};
}

void FrameAssembler::end_frame() {
  queued_bytes_ += current_.payload.size() + kFrameOverhead;
  complete_.push_back(std::exchange(current_, {}));
  header_filled_ = 0;
}

}  // namespace drover
