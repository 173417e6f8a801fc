// Bytes from anybody read as wire fields, in an order that the bytes choose, and as frames, cut
// into pieces as they choose.
#include <algorithm>
#include <cstdlib>

#include "common/frame.h"
#include "common/wire.h"

using namespace drover;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

std::uint64_t sum(ByteView data) {  // touches every byte, so that the sanitizer sees overruns
  std::uint64_t total = 0;
  for (std::byte b : data) total += std::to_integer<unsigned>(b);
  return total;
}

void read_fields(ByteView data) {
  struct Record {
    std::uint64_t a;
    std::uint16_t b[3];
  };
  const std::size_t programme = std::min<std::size_t>(data.size(), 64);
  WireReader r(data.subspan(programme));
  std::uint64_t seen = 0;
  for (std::byte step : data.first(programme)) {
    const std::size_t before = r.remaining();
    const bool was_failed = r.failed();
    switch (std::to_integer<unsigned>(step) % 8) {
      case 0:
        seen += r.number<std::uint8_t>();
        break;
      case 1:
        seen += static_cast<std::uint64_t>(r.number<std::int32_t>());
        break;
      case 2:
        seen += r.number<std::uint64_t>();
        break;
      case 3:
        seen += sum(r.bytes());
        break;
      case 4:
        seen += sum(r.bytes(std::to_integer<unsigned>(step)));
        break;
      case 5:
        seen += r.text(16).size();
        break;
      case 6:
        seen += r.record<Record>().a;
        break;
      case 7: {
        const std::size_t item = 1 + std::to_integer<unsigned>(step) / 8;
        require(r.count(item) * item <= before);
        break;
      }
    }
    require(r.remaining() <= before);
    if (was_failed) require(r.failed() && r.remaining() == before);
  }
  require(r.finish("fuzz").ok() == (!r.failed() && r.remaining() == 0));
  [[maybe_unused]] static volatile std::uint64_t sink;
  sink = seen;
}

void assemble_frames(ByteView data) {
  if (data.empty()) return;
  const std::size_t piece = 1 + std::to_integer<unsigned>(data[0]);
  data = data.subspan(1);
  FrameAssembler frames;
  std::size_t used = 0;
  for (std::size_t at = 0; at < data.size(); at += piece) {
    if (!frames.feed(data.subspan(at, std::min(piece, data.size() - at)))) return;
    while (auto frame = frames.next()) {
      const auto header = frame_header(frame->type, frame->payload.size());
      require(std::ranges::equal(header, data.subspan(used, header.size())));
      used += header.size();
      require(std::ranges::equal(frame->payload, data.subspan(used, frame->payload.size())));
      used += frame->payload.size();
    }
    require(frames.queued_bytes() == 0);
  }
  require(frames.inside_frame() == (used != data.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
  read_fields(bytes);
  assemble_frames(bytes);
  return 0;
}
