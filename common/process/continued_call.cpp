#include "common/process/continued_call.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "common/process/memory_map.h"

namespace drover {
namespace {

// A page that says what this is, then those for the calls.
constexpr std::uint64_t kCallPages = 128;
constexpr std::uint64_t kSize = (1 + kCallPages) * kPageSize;
// A process may have had many threads: their pages are not given back.
constexpr std::size_t kMostMappings = 1024;
constexpr std::size_t kPagesOfThread = 32;
constexpr std::array<char, 16> kMagic = {'d', 'r', 'o', 'v', 'e', 'r', ' ', 'c',
                                         'a', 'l', 'l', 's', ' ', 'v', '2', 0};

/// Whose a page is, what the stack pointer was in the call that it was last given to, and the how
/// manyeth call in this mapping that was; 0: nobody's.
struct Use {
  std::uint64_t thread = 0;
  std::uint64_t stack = 0;
  std::uint64_t sequence = 0;
};
struct Head {
  std::array<char, 16> magic = kMagic;
  std::uint64_t used = 0;  // calls continued so far
  std::array<Use, kCallPages> pages{};
};
static_assert(sizeof(Head) <= kPageSize);

constexpr ForeignRange range_of(ForeignAddress mapping) { return {mapping, mapping + kSize}; }

Result<std::vector<ForeignAddress>> find_mappings(const ForeignMemory& memory) {
  DROVER_TRY(const std::string maps,
             read_proc_file("/proc/" + std::to_string(memory.pid()) + "/maps"));
  DROVER_TRY(const auto areas, parse_maps(maps));
  std::vector<ForeignAddress> found;
  for (const MemoryArea& area : areas) {
    // The kernel makes one of those that lie side by side.
    const bool like_ours = area.anonymous() && area.protection == (PROT_READ | PROT_EXEC) &&
                           area.range.size() % kSize == 0;
    if (!like_ours) continue;
    for (ForeignAddress at = area.range.start; at < area.range.end; at = at + kSize) {
      const auto magic = memory.read_record<std::array<char, 16>>(at);
      if (!magic || *magic != kMagic) break;
      found.push_back(at);
    }
  }
  return found;
}

Result<ForeignAddress> make_mapping(const ForeignMemory& memory, Injection& injection) {
  DROVER_TRY(const std::uint64_t start,
             injection.call("mmap", SYS_mmap,
                            {0, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             static_cast<std::uint64_t>(-1), 0}));
  DROVER_CHECK(memory.write_record(ForeignAddress(start), Head{}));
  DROVER_CHECK(injection.call("mprotect", SYS_mprotect, {start, kSize, PROT_READ | PROT_EXEC}));
  return ForeignAddress(start);
}

/// The page in this mapping for a call: that of one of the same thread with the same stack pointer,
/// which is surely over; or one of nobody's until the thread has all that it may have, then the one
/// that it has used the longest time ago.
std::optional<std::size_t> choose_page(const Head& head, std::uint64_t thread,
                                       std::uint64_t stack) {
  std::optional<std::size_t> oldest, unused;
  std::size_t own = 0;
  for (std::size_t i = 0; i < kCallPages; ++i) {
    const Use& use = head.pages[i];
    if (use.sequence == 0) {
      if (!unused) unused = i;
    } else if (use.thread == thread) {
      if (use.stack == stack) return i;
      ++own;
      if (!oldest || use.sequence < head.pages[*oldest].sequence) oldest = i;
    }
  }
  return own < kPagesOfThread && unused ? unused : own >= kPagesOfThread ? oldest : std::nullopt;
}

}  // namespace

Result<ContinuationPage> continuation_page(pid_t tid, const Registers& registers,
                                           const ForeignMemory& memory, Injection& injection) {
  const auto thread = static_cast<std::uint64_t>(tid);
  DROVER_TRY(std::vector<ForeignAddress> mappings, find_mappings(memory));
  const ForeignAddress at(registers.rip);
  for (const ForeignAddress mapping : mappings) {
    if (range_of(mapping).contains(at)) return ContinuationPage{at - at.value() % kPageSize, true};
  }
  for (std::size_t i = 0; i < kMostMappings; ++i) {
    if (i == mappings.size()) {
      DROVER_TRY(const ForeignAddress made, make_mapping(memory, injection));
      mappings.push_back(made);
    }
    DROVER_TRY(Head head, memory.read_record<Head>(mappings[i]));
    const auto page = choose_page(head, thread, registers.rsp);
    if (!page) continue;
    head.pages[*page] = {thread, registers.rsp, ++head.used};
    DROVER_CHECK(memory.write_record(mappings[i], head));
    return ContinuationPage{mappings[i] + (1 + *page) * kPageSize, false};
  }
  return refusal("too many threads have had calls that were continued");
}

Registers in_continued_call(const Registers& arguments, const ContinuationPage& page,
                            std::uint64_t number) {
  constexpr std::uint64_t kSyscallInstruction = 2;  // bytes, the first of every page's code
  Registers r = arguments;
  r.orig_rax = number;
  r.rax = static_cast<std::uint64_t>(kErestartnohand);
  r.rip = page.code().value() + kSyscallInstruction;
  return r;
}

std::chrono::nanoseconds bounded(const timespec& time) {
  constexpr std::time_t kMostSeconds = std::time_t{1} << 32;
  return std::chrono::seconds(std::min(time.tv_sec, kMostSeconds)) +
         std::chrono::nanoseconds(time.tv_nsec);
}

Result<bool> is_continued(const Registers& registers, const ForeignMemory& memory) {
  DROVER_TRY(const auto mappings, find_mappings(memory));
  return std::ranges::any_of(mappings, [&](ForeignAddress mapping) {
    return range_of(mapping).contains(ForeignAddress(registers.rip));
  });
}

}  // namespace drover
