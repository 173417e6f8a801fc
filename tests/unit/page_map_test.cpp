#include "common/process/page_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace drover {
namespace {

constexpr std::uint64_t kHugePage = 2 * 1024 * 1024;

OwnedFd own_pagemap() { return OwnedFd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)); }

/// Memory of this process for a test to touch.
class Memory {
 public:
  explicit Memory(std::size_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : size_(pages * kPageSize),
        base_(static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, fd, 0))) {
    madvise(base_, size_, MADV_NOHUGEPAGE);
  }
  ~Memory() { munmap(base_, size_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  volatile char& page(std::size_t i) { return base_[i * kPageSize]; }
  void read(std::size_t i) { [[maybe_unused]] const char value = page(i); }
  char* base() { return base_; }
  ForeignRange pages(std::size_t from, std::size_t to) const {
    const ForeignAddress start(reinterpret_cast<std::uint64_t>(base_));
    return {start + from * kPageSize, start + to * kPageSize};
  }
  ForeignRange range() const { return pages(0, size_ / kPageSize); }

 private:
  std::size_t size_;
  char* base_;
};

class PageMapTest : public testing::TestWithParam<PageMap::Backend> {
 protected:
  PageMap map() {
    auto made = PageMap::over(own_pagemap(), GetParam());
    EXPECT_TRUE(made) << made.error().message();
    return *std::move(made);
  }
  bool scans() const { return GetParam() == PageMap::Backend::kScan; }
  std::vector<ForeignRange> own(ForeignRange range) {
    auto pages = map().pages_with_own_content(range);
    EXPECT_TRUE(pages) << pages.error().message();
    return *std::move(pages);
  }

  void SetUp() override {
    if (scans() && PageMap::over(own_pagemap())->backend() != PageMap::Backend::kScan) {
      GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
    }
  }
};

using Ranges = std::vector<ForeignRange>;

TEST_P(PageMapTest, lists_written_pages_merged_and_nothing_else) {
  Memory memory(16);
  EXPECT_EQ(own(memory.range()), Ranges{});
  for (const int i : {2, 3, 4, 9, 15}) memory.page(i) = 1;
  EXPECT_EQ(own(memory.range()),
            (Ranges{memory.pages(2, 5), memory.pages(9, 10), memory.pages(15, 16)}));
  EXPECT_EQ(own(memory.pages(3, 4)), (Ranges{memory.pages(3, 4)}));
  EXPECT_EQ(own(memory.pages(10, 15)), Ranges{});
  EXPECT_EQ(own(memory.pages(4, 4)), Ranges{});
}

TEST_P(PageMapTest, leaves_out_the_zero_page_where_it_can_be_told) {
  Memory memory(4);
  memory.read(1);
  EXPECT_EQ(own(memory.range()), scans() ? Ranges{} : Ranges{memory.pages(1, 2)});
}

TEST_P(PageMapTest, of_a_private_file_mapping_lists_only_pages_that_differ) {
  const OwnedFd file(memfd_create("pages", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 8 * kPageSize), 0);
  Memory memory(8, MAP_PRIVATE, file.get());
  for (int i = 0; i < 8; ++i) memory.read(i);
  EXPECT_EQ(own(memory.range()), Ranges{});
  memory.page(5) = 1;
  EXPECT_EQ(own(memory.range()), (Ranges{memory.pages(5, 6)}));
}

TEST_P(PageMapTest, never_lists_pages_of_a_shared_mapping) {
  Memory memory(4, MAP_SHARED | MAP_ANONYMOUS);
  memory.page(1) = 1;
  EXPECT_EQ(own(memory.range()), Ranges{});
}

TEST_P(PageMapTest, counts_a_huge_page_whole_within_the_range) {
  Memory memory(3 * kHugePage / kPageSize);
  const std::uint64_t base = memory.range().start.value();
  const std::uint64_t aligned = (base + kHugePage - 1) / kHugePage * kHugePage;
  const std::size_t first = (aligned - base) / kPageSize;
  char* const huge = memory.base() + (aligned - base);
  if (madvise(huge, kHugePage, MADV_HUGEPAGE) != 0) GTEST_SKIP() << "no transparent huge pages";
  *huge = 1;
  const ForeignRange whole = memory.pages(first, first + kHugePage / kPageSize);
  const auto found = own(memory.range());
  ASSERT_EQ(found.size(), 1u);
  if (found[0].size() == kPageSize) GTEST_SKIP() << "the kernel gave no huge page";
  EXPECT_EQ(found[0], whole);
  EXPECT_EQ(own(memory.pages(first + 7, first + 9)), (Ranges{memory.pages(first + 7, first + 9)}));
}

TEST_P(PageMapTest, finds_more_ranges_than_fit_into_one_answer) {
  constexpr std::size_t kPages = 9000;
  Memory memory(kPages);
  for (std::size_t i = 0; i < kPages; i += 2) memory.page(i) = 1;
  const auto found = own(memory.range());
  ASSERT_EQ(found.size(), kPages / 2);
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i], memory.pages(2 * i, 2 * i + 1));
  }
}

TEST_P(PageMapTest, tells_guard_pages_apart) {
  constexpr int kMadvGuardInstall = 102;
  Memory memory(8);
  memory.page(1) = 1;
  memory.page(4) = 1;
  if (madvise(memory.base() + 4 * kPageSize, 2 * kPageSize, kMadvGuardInstall) != 0) {
    GTEST_SKIP() << "no guard pages in this kernel";
  }
  auto guards = map().guard_pages(memory.range());
  ASSERT_TRUE(guards) << guards.error().message();
  if (guards->empty()) GTEST_SKIP() << "this kernel cannot tell guard pages";
  EXPECT_EQ(*guards, (Ranges{memory.pages(4, 6)}));
  EXPECT_EQ(own(memory.range()), (Ranges{memory.pages(1, 2)}));
}

TEST_P(PageMapTest, refuses_a_range_that_is_not_of_whole_pages) {
  EXPECT_FALSE(map().pages_with_own_content({ForeignAddress(1), ForeignAddress(4096)}));
  EXPECT_FALSE(map().pages_with_own_content({ForeignAddress(8192), ForeignAddress(4096)}));
}

INSTANTIATE_TEST_SUITE_P(Backends, PageMapTest,
                         testing::Values(PageMap::Backend::kScan, PageMap::Backend::kClassic),
                         [](const auto& info) {
                           return info.param == PageMap::Backend::kScan ? "scan" : "classic";
                         });

TEST(PageMap, crosses_a_huge_empty_reservation_quickly_with_the_scan) {
  auto map = PageMap::over(own_pagemap());
  ASSERT_TRUE(map);
  if (map->backend() != PageMap::Backend::kScan) GTEST_SKIP();
  constexpr std::size_t kTerabyte = 1ull << 40;
  void* const base = mmap(nullptr, kTerabyte, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(base, MAP_FAILED);
  madvise(base, kTerabyte, MADV_NOHUGEPAGE);
  static_cast<char*>(base)[kTerabyte - 1] = 1;
  const ForeignAddress start(reinterpret_cast<std::uint64_t>(base));
  auto found = map->pages_with_own_content({start, start + kTerabyte});
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (Ranges{{start + kTerabyte - kPageSize, start + kTerabyte}}));
  munmap(base, kTerabyte);
}

TEST(PageMap, needs_a_descriptor) { EXPECT_FALSE(PageMap::over(OwnedFd())); }

}  // namespace
}  // namespace drover
