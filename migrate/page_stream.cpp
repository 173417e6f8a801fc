#include "migrate/page_stream.h"

#include <algorithm>

namespace drover {
namespace {

/// Small, so that there is a sign of life in time on a slow link.
constexpr std::uint64_t kPiece = 128 << 10;

Result<std::uint64_t> send_range(SecureChannel& channel, const ForeignMemory& memory,
                                 ForeignRange range, Bytes& buffer, const SignOfLife& alive) {
  for (ForeignAddress at = range.start; at < range.end;) {
    const std::uint64_t n = std::min(kPiece, range.end - at);
    const std::span<std::byte> piece(buffer.data(), n);
    DROVER_CHECK(memory.read(at, piece));
    const PagesHead head{at.value()};
    DROVER_CHECK(channel.send(static_cast<std::uint16_t>(FrameType::kPages),
                              std::as_bytes(std::span(&head, 1)), piece));
    if (alive) DROVER_CHECK(alive());
    at = at + n;
  }
  return range.size();
}

/// Whether `range` lies in the areas: they are in order and do not overlap.
bool covered(const std::vector<Area>& areas, ForeignRange range) {
  auto area = std::partition_point(areas.begin(), areas.end(),
                                   [&](const Area& a) { return a.range.end <= range.start; });
  ForeignAddress at = range.start;
  for (; at < range.end; ++area) {
    if (area == areas.end() || !area->range.contains(at)) return false;
    at = area->range.end;
  }
  return true;
}

}  // namespace

Result<std::uint64_t> send_pages(SecureChannel& channel, const ForeignMemory& memory,
                                 const PageMap& pages, const std::vector<Area>& areas,
                                 const std::vector<ForeignRange>& also, const SignOfLife& alive) {
  Bytes buffer(kPiece);
  std::uint64_t sent = 0;
  for (const Area& area : areas) {
    const bool shared = (area.flags & Area::kWasShared) != 0;
    if ((area.flags & Area::kDroppable) != 0) continue;
    if (shared && area.kind == AreaKind::kContent) continue;
    // The page map does not tell which pages of shared memory are the process's own.
    std::vector<ForeignRange> own{area.range};
    if (!shared) {
      DROVER_TRY(own, pages.pages_with_own_content(area.range));
    }
    for (const ForeignRange& range : own) {
      DROVER_TRY(const std::uint64_t n, send_range(channel, memory, range, buffer, alive));
      sent += n;
    }
  }
  for (const ForeignRange& range : also) {
    DROVER_TRY(const std::uint64_t n, send_range(channel, memory, range, buffer, alive));
    sent += n;
  }
  return sent;
}

Result<std::uint64_t> receive_pages(const ForeignMemory& memory, const std::vector<Area>& allowed,
                                    ByteView frame) {
  WireReader r(frame);
  const auto head = r.record<PagesHead>();
  const ByteView data = r.raw(r.remaining());
  if (r.failed() || data.empty() || data.size() % kPageSize != 0 || head.address % kPageSize != 0 ||
      head.address + data.size() < head.address) {
    return refusal("pages: malformed message");
  }
  const ForeignAddress start(head.address);
  if (!covered(allowed, {start, start + data.size()})) {
    return refusal("pages: outside of the process's memory");
  }
  DROVER_CHECK(memory.write(start, data));
  return data.size();
}

}  // namespace drover
