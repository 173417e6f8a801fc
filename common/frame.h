// Frames: what a byte stream between two programs of ours is cut into.
//
// On the wire: u32 length of the payload, u16 type, u16 zero, payload; little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "common/result.h"
#include "common/wire.h"

namespace drover {

/// The largest payload, in bytes: 16 MiB of data and what describes it.
inline constexpr std::size_t kMaxFrame = (std::size_t{16} << 20) + (std::size_t{64} << 10);
inline constexpr std::size_t kFrameHeaderSize = 8;

struct Frame {
  std::uint16_t type = 0;
  Bytes payload;
};

/// The header of a frame whose payload is `size` bytes (at most kMaxFrame).
std::array<std::byte, kFrameHeaderSize> frame_header(std::uint16_t type, std::size_t size);

/// Puts frames together from a stream that arrives in pieces of any size.
class FrameAssembler {
 public:
  /// Takes the next bytes of the stream. Fails on a header that is no header or that announces
  /// more than kMaxFrame, and when memory ends; after that the stream has no meaning any more.
  Status feed(ByteView data);

  /// The oldest complete frame.
  std::optional<Frame> next();

  bool empty() const { return complete_.empty(); }
  /// Whether the stream so far ends inside a frame.
  bool inside_frame() const { return header_filled_ != 0; }
  /// Roughly the memory that complete frames hold, in bytes.
  std::size_t queued_bytes() const { return queued_bytes_; }

 private:
  Status begin_frame();
  void end_frame();

  std::array<std::byte, kFrameHeaderSize> header_;
  std::size_t header_filled_ = 0;
  std::size_t missing_ = 0;  // of the current payload
  Frame current_;
  std::deque<Frame> complete_;
  std::size_t queued_bytes_ = 0;
};

}  // namespace drover
