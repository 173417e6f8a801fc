#include "common/process/page_map.h"

#include <sys/ioctl.h>

#include <algorithm>

namespace drover {

namespace {

// Bits of a classic pagemap entry.
constexpr std::uint64_t kEntryPresent = 1ull << 63;
constexpr std::uint64_t kEntrySwapped = 1ull << 62;
constexpr std::uint64_t kEntryFileOrShared = 1ull << 61;
constexpr std::uint64_t kEntryGuard = 1ull << 58;

uapi::PageMapScan query_over(ForeignRange range) {
  uapi::PageMapScan query{};
  query.size = sizeof query;
  query.start = range.start.value();
  query.end = range.end.value();
  return query;
}

Status check_aligned(ForeignRange range) {
  if (range.start <= range.end && range.start.value() % kPageSize == 0 &&
      range.end.value() % kPageSize == 0) {
    return {};
  }
  return refusal("pagemap: a range that is not of whole pages");
}

void append(std::vector<ForeignRange>& ranges, ForeignRange next) {
  if (!ranges.empty() && ranges.back().end == next.start) {
    ranges.back().end = next.end;
  } else {
    ranges.push_back(next);
  }
}

/// Whether the kernel knows the ioctl with these categories, asked over an empty range.
bool scan_knows(const OwnedFd& file, std::uint64_t categories) {
  uapi::PageRegion region;
  uapi::PageMapScan query = query_over({});
  query.vec = reinterpret_cast<std::uint64_t>(&region);
  query.vec_len = 1;
  query.category_anyof_mask = categories;
  query.return_mask = categories;
  return ioctl(file.get(), uapi::kPageMapScan, &query) >= 0;
}

}  // namespace

Result<PageMap> PageMap::over(OwnedFd pagemap) {
  const Backend backend =
      scan_knows(pagemap, uapi::kPageIsPresent) ? Backend::kScan : Backend::kClassic;
  return over(std::move(pagemap), backend);
}

Result<PageMap> PageMap::over(OwnedFd pagemap, Backend backend) {
  if (!pagemap) return refusal("pagemap: no descriptor");
  if (backend == Backend::kScan && !scan_knows(pagemap, uapi::kPageIsPresent)) {
    return errno_error("pagemap: PAGEMAP_SCAN");
  }
  const bool knows_guards = scan_knows(pagemap, uapi::kPageIsGuard);
  return PageMap(std::move(pagemap), backend, knows_guards);
}

std::string_view PageMap::which() const {
  return backend_ == Backend::kScan ? "PAGEMAP_SCAN" : "pagemap entries";
}

Result<std::vector<ForeignRange>> PageMap::pages_with_own_content(ForeignRange range) const {
  DROVER_CHECK(check_aligned(range));
  if (backend_ == Backend::kClassic) {
    return read_entries(range, [](std::uint64_t entry) {
      return (entry & (kEntryPresent | kEntrySwapped)) &&
             !(entry & (kEntryFileOrShared | kEntryGuard));
    });
  }
  uapi::PageMapScan query = query_over(range);
  query.category_anyof_mask = uapi::kPageIsPresent | uapi::kPageIsSwapped;
  query.category_mask = uapi::kPageIsFile | uapi::kPageIsPfnZero;
  if (knows_guards_) query.category_mask |= uapi::kPageIsGuard;
  query.category_inverted = query.category_mask;
  return scan(query);
}

Result<std::vector<ForeignRange>> PageMap::guard_pages(ForeignRange range) const {
  DROVER_CHECK(check_aligned(range));
  if (backend_ == Backend::kClassic) {
    return read_entries(range, [](std::uint64_t entry) { return (entry & kEntryGuard) != 0; });
  }
  if (!knows_guards_) return std::vector<ForeignRange>{};
  uapi::PageMapScan query = query_over(range);
  query.category_mask = uapi::kPageIsGuard;
  return scan(query);
}

Result<std::vector<ForeignRange>> PageMap::scan(uapi::PageMapScan query) const {
  std::vector<uapi::PageRegion> regions(1024);
  query.vec = reinterpret_cast<std::uint64_t>(regions.data());
  query.vec_len = regions.size();
  // Adjacent pages are one region only if they are equal in these.
  query.return_mask = query.category_mask & ~query.category_inverted;
  if (query.return_mask == 0) query.return_mask = query.category_anyof_mask;
  std::vector<ForeignRange> ranges;
  while (query.start < query.end) {
    const int n = ioctl(file_.get(), uapi::kPageMapScan, &query);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("pagemap: PAGEMAP_SCAN");
    for (int i = 0; i < n; ++i) {
      append(ranges, {ForeignAddress(regions[i].start), ForeignAddress(regions[i].end)});
    }
    if (static_cast<std::size_t>(n) < regions.size()) break;
    query.start = query.walk_end;
  }
  return ranges;
}

template <class Predicate>
Result<std::vector<ForeignRange>> PageMap::read_entries(ForeignRange range,
                                                        Predicate wanted) const {
  std::vector<std::uint64_t> entries(64 * 1024);
  std::vector<ForeignRange> ranges;
  ForeignAddress at = range.start;
  while (at < range.end) {
    const std::uint64_t pages =
        std::min<std::uint64_t>((range.end - at) / kPageSize, entries.size());
    const ssize_t n = pread(file_.get(), entries.data(), pages * sizeof(std::uint64_t),
                            static_cast<off_t>(at.value() / kPageSize * sizeof(std::uint64_t)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("pagemap: read");
    // Nothing more means the end of the address space (or of the process).
    if (n < static_cast<ssize_t>(sizeof(std::uint64_t))) break;
    const std::size_t got = static_cast<std::size_t>(n) / sizeof(std::uint64_t);
    for (std::size_t i = 0; i < got; ++i, at = at + kPageSize) {
      if (wanted(entries[i])) append(ranges, {at, at + kPageSize});
    }
  }
  return ranges;
}

}  // namespace drover
