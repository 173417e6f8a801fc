// What a process has mapped: the lines of /proc/PID/maps and /proc/PID/smaps as values.
// The formats are those of proc(5), "/proc/pid/maps" and "/proc/pid/smaps" (VmFlags).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/foreign_address.h"
#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// What smaps' VmFlags line says of an area. Two-letter names are the kernel's.
struct AreaFlags {
  bool may_read = false;       ///< mr
  bool may_write = false;      ///< mw: mprotect may make it writable
  bool may_exec = false;       ///< me
  bool may_share = false;      ///< ms
  bool grows_down = false;     ///< gd: MAP_GROWSDOWN, the main stack
  bool dont_fork = false;      ///< dc: MADV_DONTFORK
  bool dont_expand = false;    ///< de
  bool dont_dump = false;      ///< dd: MADV_DONTDUMP
  bool wipe_on_fork = false;   ///< wf: MADV_WIPEONFORK
  bool huge = false;           ///< hg: MADV_HUGEPAGE
  bool no_huge = false;        ///< nh: MADV_NOHUGEPAGE
  bool mergeable = false;      ///< mg: MADV_MERGEABLE
  bool sequential = false;     ///< sr: MADV_SEQUENTIAL
  bool random = false;         ///< rr: MADV_RANDOM
  bool locked = false;         ///< lo: mlock
  bool lock_on_fault = false;  ///< lf: MLOCK_ONFAULT
  bool no_reserve = false;     ///< nr: MAP_NORESERVE
  bool account = false;        ///< ac: counted against the commit limit
  bool sync_fault = false;     ///< sf: MAP_SYNC
  bool hugetlb = false;        ///< ht: pages of a hugetlbfs
  bool pfn_map = false;        ///< pf: raw page frames of a device
  bool mixed_map = false;      ///< mm: page frames and pages of a device
  bool io = false;             ///< io: device memory
  bool shadow_stack = false;   ///< ss
  bool userfault = false;      ///< um, uw or ui: some userfaultfd watches it
  bool droppable = false;      ///< dp: MAP_DROPPABLE
  bool sealed = false;         ///< sl: mseal
  bool guarded = false;        ///< gu: may have guard pages (newer kernels only; see PageMap)
  /// Flags this code does not know, as printed, separated by spaces. Whoever moves a process
  /// decides whether it dares to.
  std::string unknown;

  bool operator==(const AreaFlags&) const = default;
};

/// One mapping (VMA) of a process.
struct MemoryArea {
  ForeignRange range;
  int protection = 0;  ///< PROT_READ | PROT_WRITE | PROT_EXEC
  bool shared = false;
  std::uint64_t file_offset = 0;  ///< bytes
  std::uint64_t device = 0;       ///< as makedev gives it
  std::uint64_t inode = 0;
  /// Path of the file, or the kernel's name of the area in brackets ("[heap]"), or empty. The
  /// kernel's escape of a newline is undone and the suffix " (deleted)" is cut off. Both are
  /// ambiguous in the kernel's format: a name is for people and for a first guess; what proves
  /// which file it is are device and inode.
  std::string name;
  bool deleted = false;    ///< the name had the suffix " (deleted)"
  int protection_key = 0;  ///< from smaps, 0 if there is none
  AreaFlags flags;         ///< all false when read from maps

  /// Backed by a file of any kind: also tmpfs, memfd, System V and shared anonymous memory.
  bool file_backed() const { return inode != 0 || device != 0; }
  /// Private memory without a file, including heap, stacks and named anonymous memory.
  bool anonymous() const { return !file_backed() && !special(); }
  /// Made by the kernel for every process: vdso, the vvar pages, vsyscall, uprobes.
  bool special() const;

  bool operator==(const MemoryArea&) const = default;
};

/// The areas of /proc/PID/smaps, flags included, in address order. Fails on a text that is not
/// smaps, or is smaps without VmFlags.
Result<std::vector<MemoryArea>> parse_smaps(std::string_view text);

/// The areas of /proc/PID/maps, without flags, in address order.
Result<std::vector<MemoryArea>> parse_maps(std::string_view text);

/// The vDSO among the areas.
Result<ForeignRange> find_vdso(const std::vector<MemoryArea>& areas);

/// The whole of an already open proc file, from its start. For a running process maps is only
/// consistent in itself, line by line: stop the process first.
Result<std::string> read_proc_file(const OwnedFd& file);

/// The whole of a proc file named by its path.
Result<std::string> read_proc_file(const std::string& path);

/// The whole of a proc file named relative to an open directory such as /proc/PID.
Result<std::string> read_proc_file(const OwnedFd& directory, const std::string& name);

}  // namespace drover
