#include "common/process/continued_call.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <string>

#include "common/process/memory_map.h"

namespace drover {
namespace {

// A page that says what this is, then those for the calls.
constexpr std::uint64_t kCallPages = 128;
constexpr std::uint64_t kSize = (1 + kCallPages) * kPageSize;
constexpr std::array<char, 16> kMagic = {'d', 'r', 'o', 'v', 'e', 'r', ' ', 'c',
                                         'a', 'l', 'l', 's', ' ', 'v', '1', 0};
struct Head {
  std::array<char, 16> magic = kMagic;
  std::uint64_t used = 0;  // calls continued so far
};

Result<ForeignAddress> find_mapping(const ForeignMemory& memory) {
  DROVER_TRY(const std::string maps,
             read_proc_file("/proc/" + std::to_string(memory.pid()) + "/maps"));
  DROVER_TRY(const auto areas, parse_maps(maps));
  for (const MemoryArea& area : areas) {
    const bool ours = area.anonymous() && area.protection == (PROT_READ | PROT_EXEC) &&
                      area.range.size() == kSize;
    if (!ours) continue;
    const auto head = memory.read_record<Head>(area.range.start);
    if (head && head->magic == kMagic) return area.range.start;
  }
  return ForeignAddress();
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

constexpr ForeignRange range_of(ForeignAddress mapping) { return {mapping, mapping + kSize}; }

}  // namespace

Result<ContinuationPage> continuation_page(const Registers& registers, const ForeignMemory& memory,
                                           Injection& injection) {
  DROVER_TRY(ForeignAddress mapping, find_mapping(memory));
  if (mapping.is_null()) {
    DROVER_TRY(mapping, make_mapping(memory, injection));
  }
  const ForeignAddress at(registers.rip);
  if (range_of(mapping).contains(at)) return ContinuationPage{at - at.value() % kPageSize, true};
  DROVER_TRY(Head head, memory.read_record<Head>(mapping));
  const ForeignAddress page = mapping + (1 + head.used % kCallPages) * kPageSize;
  ++head.used;
  DROVER_CHECK(memory.write_record(mapping, head));
  return ContinuationPage{page, false};
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
  DROVER_TRY(const ForeignAddress mapping, find_mapping(memory));
  return !mapping.is_null() && range_of(mapping).contains(ForeignAddress(registers.rip));
}

}  // namespace drover
