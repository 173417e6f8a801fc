#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>

#include "common/sha256.h"
#include "migrate/capture.h"

namespace drover {
namespace {

constexpr std::size_t kPiece = 1 << 20;

/// Anybody may read the file, so its content is no secret between users: it is root's, and
/// world-readable, and still the file that is mapped.
bool is_public(const MemoryArea& area) {
  struct stat st {};
  if (area.deleted || stat(area.name.c_str(), &st) != 0) return false;
  return st.st_uid == 0 && (st.st_mode & S_IROTH) != 0 && S_ISREG(st.st_mode) &&
         st.st_ino == area.inode;
}

}  // namespace

// The file's bytes as the process sees them; zeros where it has pages of its own.
Status HomeContents::read_clean(const ForeignMemory& memory, ForeignRange range,
                                std::span<std::byte> into) const {
  std::fill(into.begin(), into.end(), std::byte{0});
  ForeignAddress at = range.start;
  const auto clean_up_to = [&](ForeignAddress end) -> Status {
    if (at < end) {
      DROVER_CHECK(memory.read(at, into.subspan(at - range.start, end - at)));
    }
    return {};
  };
  for (const ForeignRange& hole : holes_) {
    if (!hole.overlaps(range)) continue;
    DROVER_CHECK(clean_up_to(std::max(at, std::min(hole.start, range.end))));
    at = std::max(at, std::min(hole.end, range.end));
  }
  return clean_up_to(range.end);
}

Result<Content> HomeContents::describe(const MemoryArea& area, const ForeignMemory& memory,
                                       const PageMap& pages) {
  Content content;
  content.device = area.device;
  content.inode = area.inode;
  content.file_offset = area.file_offset;
  content.mapped_size = area.range.size();
  content.path = area.name;
  content.is_public = is_public(area) ? 1 : 0;

  if (!area.shared) {
    DROVER_TRY(const auto own, pages.pages_with_own_content(area.range));
    holes_.insert(holes_.end(), own.begin(), own.end());
  }
  Sha256 sha;
  Bytes piece(kPiece);
  for (ForeignAddress at = area.range.start; at < area.range.end;) {
    std::size_t n = std::min<std::uint64_t>(kPiece, area.range.end - at);
    const std::span<std::byte> into(piece.data(), n);
    if (!read_clean(memory, {at, at + n}, into)) {
      // The file ends inside the mapping: find the page.
      n = 0;
      while (at + n + kPageSize <= area.range.end && n + kPageSize <= kPiece &&
             read_clean(memory, {at + n, at + n + kPageSize}, into.subspan(n, kPageSize))) {
        n += kPageSize;
      }
    }
    sha.update({piece.data(), n});
    content.size += n;
    if (n < std::min<std::uint64_t>(kPiece, area.range.end - at)) break;
    at = at + n;
  }
  content.key = sha.finish();
  return content;
}

Result<std::vector<Content>> HomeContents::take_up(const std::vector<MemoryArea>& areas,
                                                   const ForeignMemory& memory,
                                                   const PageMap& pages) {
  std::vector<Content> fresh;
  for (const MemoryArea& area : areas) {
    if (!area.file_backed() || area.special() || is_written_back(area)) continue;
    if (find(area)) continue;
    DROVER_TRY(Content content, describe(area, memory, pages));
    by_file_.emplace(FileId{content.device, content.inode},
                     static_cast<std::uint32_t>(contents_.size()));
    contents_.push_back(content);
    mapped_at_.push_back(area.range.start);
    has_holes_.push_back(std::ranges::any_of(
        holes_, [&](const ForeignRange& hole) { return hole.overlaps(area.range); }));
    fresh.push_back(std::move(content));
  }
  return fresh;
}

std::optional<HomeContents::Place> HomeContents::find(const MemoryArea& area) const {
  const auto [begin, end] = by_file_.equal_range(FileId{area.device, area.inode});
  for (auto it = begin; it != end; ++it) {
    const Content& c = contents_[it->second];
    if (area.file_offset < c.file_offset ||
        area.file_offset + area.range.size() > c.file_offset + c.mapped_size) {
      continue;
    }
    const Place place{it->second, area.file_offset - c.file_offset};
    const bool same_mapping = mapped_at_[it->second] + place.offset == area.range.start;
    if (same_mapping || !has_holes_[it->second]) return place;
  }
  return std::nullopt;
}

Status HomeContents::read(const ForeignMemory& memory, std::uint32_t index, std::uint64_t offset,
                          std::span<std::byte> into) const {
  const ForeignAddress at = mapped_at_[index] + offset;
  return read_clean(memory, {at, at + into.size()}, into);
}

void HomeContents::forget(std::uint32_t index) {
  std::erase_if(by_file_, [&](const auto& entry) { return entry.second == index; });
}

std::vector<ForeignRange> HomeContents::holes_now_clean(const std::vector<MemoryArea>& areas,
                                                        const PageMap& pages) const {
  std::vector<ForeignRange> clean;
  for (const ForeignRange& hole : holes_) {
    for (const MemoryArea& area : areas) {
      if (!area.file_backed() || !area.range.overlaps(hole)) continue;
      const ForeignRange part{std::max(hole.start, area.range.start),
                              std::min(hole.end, area.range.end)};
      const auto own = pages.pages_with_own_content(part);
      if (!own) continue;
      ForeignAddress at = part.start;
      for (const ForeignRange& o : *own) {
        if (at < o.start) clean.push_back({at, o.start});
        at = o.end;
      }
      if (at < part.end) clean.push_back({at, part.end});
    }
  }
  return clean;
}

}  // namespace drover
