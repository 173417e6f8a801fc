// Which pages of a process hold content of its own: what has to travel when it moves.
// Over /proc/PID/pagemap; see the kernel's Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <linux/ioctl.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/foreign_address.h"
#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// The kernel's interface of PAGEMAP_SCAN (Linux 6.7), which older headers do not have.
namespace uapi {

struct PageRegion {
  std::uint64_t start, end, categories;
};
struct PageMapScan {
  std::uint64_t size, flags, start, end;
  std::uint64_t walk_end;  ///< out; may lie below `end` on a complete scan: judge by n < vec_len
  std::uint64_t vec, vec_len, max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
inline constexpr unsigned long kPageMapScan = _IOWR('f', 16, PageMapScan);

inline constexpr std::uint64_t kPageIsWpAllowed = 1u << 0;
inline constexpr std::uint64_t kPageIsWritten = 1u << 1;
inline constexpr std::uint64_t kPageIsFile = 1u << 2;
inline constexpr std::uint64_t kPageIsPresent = 1u << 3;
inline constexpr std::uint64_t kPageIsSwapped = 1u << 4;
inline constexpr std::uint64_t kPageIsPfnZero = 1u << 5;
inline constexpr std::uint64_t kPageIsHuge = 1u << 6;
inline constexpr std::uint64_t kPageIsSoftDirty = 1u << 7;
inline constexpr std::uint64_t kPageIsGuard = 1u << 8;  ///< Linux 6.16
inline constexpr std::uint64_t kScanWpMatching = 1u << 0;
inline constexpr std::uint64_t kScanCheckWpAsync = 1u << 1;

}  // namespace uapi

/// An open /proc/PID/pagemap and the way its kernel can be asked.
class PageMap {
 public:
  enum class Backend {
    kScan,     ///< the PAGEMAP_SCAN ioctl: cost by populated pages, knows the zero page
    kClassic,  ///< eight bytes a page: cost by the size of the range, empty or not
  };

  /// Takes the open pagemap and finds out what its kernel offers.
  static Result<PageMap> over(OwnedFd pagemap);
  /// The same with the back end laid down, for tests and measurements.
  static Result<PageMap> over(OwnedFd pagemap, Backend backend);

  /// The pages in `range` that are present or swapped out and belong to the process alone, that
  /// is, are anonymous: in a private file mapping these are the pages that differ from the file.
  /// Merged and in order. Leaves out guard pages and, with kScan, the shared zero page; pages of
  /// shared mappings never count. Huge pages count whole as far as they lie in the range.
  ///
  /// Ask before a userfaultfd write-protects the range: from then on its kernel shows empty
  /// pages with the protection mark as swapped out, and they would be listed as well.
  Result<std::vector<ForeignRange>> pages_with_own_content(ForeignRange range) const;

  /// The guard pages (MADV_GUARD_INSTALL) in `range`: touching one is SIGSEGV. Kernels that
  /// have guard pages but cannot tell them (6.13, 6.14) list none.
  Result<std::vector<ForeignRange>> guard_pages(ForeignRange range) const;

  Backend backend() const { return backend_; }
  /// The back end in words, for reports.
  std::string_view which() const;
  const OwnedFd& file() const { return file_; }

 private:
  PageMap(OwnedFd file, Backend backend, bool knows_guards)
      : file_(std::move(file)), backend_(backend), knows_guards_(knows_guards) {}

  Result<std::vector<ForeignRange>> scan(uapi::PageMapScan query) const;
  template <class Predicate>
  Result<std::vector<ForeignRange>> read_entries(ForeignRange range, Predicate wanted) const;

  OwnedFd file_;
  Backend backend_;
  bool knows_guards_;  ///< kScan only: the ioctl has PAGE_IS_GUARD
};

}  // namespace drover
