// Taking the image of a process at home: what it has mapped, what makes up its threads.
#pragma once

#include <ctime>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "common/process/foreign_memory.h"
#include "common/process/injection.h"
#include "common/process/memory_map.h"
#include "common/process/page_map.h"
#include "common/process/scratch.h"
#include "common/sha256.h"
#include "migrate/image.h"

namespace drover {

/// The areas of a process with their flags (/proc/PID/smaps).
Result<std::vector<MemoryArea>> read_memory_areas(pid_t pid);

/// The same areas with `range` cut out of them: our own mapping is nobody's business, even
/// where the kernel has merged it with one of the program's.
std::vector<MemoryArea> without(std::vector<MemoryArea> areas, ForeignRange range);

/// Shared writable memory that travels as a copy and is written back at homecoming: the counters of
/// a Java machine (/tmp/hsperfdata_USER/PID), which it only writes, and jstat(1) shows.
bool is_written_back(const MemoryArea& area);

/// Says in words why memory of this kind cannot move, or succeeds.
Status check_areas_can_move(const std::vector<MemoryArea>& areas);

/// The digest of the vDSO as the kernel made it, whatever a returning call has left in it.
Result<Sha256Digest> digest_of_vdso(const ForeignMemory& memory, ForeignRange vdso);

/// The contents of the file mappings of a process at home, numbered in the order in which they
/// were met. Lives as long as the process is away: it tells at homecoming which mapping of the
/// process each area of the body came from.
class HomeContents {
 public:
  /// Takes up the file mappings not met before, reading them through the process's own
  /// mappings; the process may be running. Gives the new ones, in order.
  Result<std::vector<Content>> take_up(const std::vector<MemoryArea>& areas,
                                       const ForeignMemory& memory, const PageMap& pages);

  struct Place {
    std::uint32_t index = 0;
    std::uint64_t offset = 0;
  };
  /// Where in the contents a file mapping finds its bytes.
  std::optional<Place> find(const MemoryArea& area) const;

  /// The bytes of a content from `offset` on, as the process sees them, into `into`.
  Status read(const ForeignMemory& memory, std::uint32_t index, std::uint64_t offset,
              std::span<std::byte> into) const;

  /// The content was not what was read first: `take_up` takes its mapping up anew.
  void forget(std::uint32_t index);

  /// Pages that were the process's own when its content was read, so that the content does not
  /// hold what the file has there, and that are its own no longer: they are to be sent as well.
  std::vector<ForeignRange> holes_now_clean(const std::vector<MemoryArea>& areas,
                                            const PageMap& pages) const;
  const std::vector<Content>& all() const { return contents_; }

 private:
  using FileId = std::tuple<std::uint64_t, std::uint64_t>;  // device, inode
  Result<Content> describe(const MemoryArea& area, const ForeignMemory& memory,
                           const PageMap& pages);
  Status read_clean(const ForeignMemory& memory, ForeignRange range,
                    std::span<std::byte> into) const;

  std::vector<Content> contents_;
  std::vector<ForeignAddress> mapped_at_;
  std::vector<bool> has_holes_;  // so it is what this one mapping shows where it is clean
  std::multimap<FileId, std::uint32_t> by_file_;
  std::vector<ForeignRange> holes_;
};

/// Area::Flag bits of a mapping.
std::uint32_t area_flags(const MemoryArea& area);

/// The layout of a body that is to stand in for a process with these areas, scratch not among
/// them.
Result<Layout> layout_of(const std::vector<MemoryArea>& areas, const HomeContents& contents,
                         const Scratch& scratch);

/// What a frozen thread is, as far as it can be told without its help. To be called before
/// anything is injected: ends an active restartable sequence, and lets a thread that stopped
/// inside the vDSO go on to the first instruction outside.
Result<ThreadState> capture_thread(const TracedThread& thread, const ForeignMemory& memory,
                                   ForeignRange vdso);

/// What only the thread itself can tell: its exit notification and alternate stack.
Status complete_thread(Injection& injection, const ForeignMemory& memory, const Scratch& scratch,
                       ThreadState& thread);

/// The alternate signal stack alone.
Status read_alternate_stack(Injection& injection, const ForeignMemory& memory,
                            const Scratch& scratch, ThreadState& thread);

/// Signal actions, memory fields and clocks of a frozen process, by its leading thread.
Result<ProcessState> capture_process(pid_t pid, Injection& leader, const ForeignMemory& memory,
                                     const Scratch& scratch);

}  // namespace drover
