#include "migrate/capture.h"

#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "common/process/rseq.h"

namespace drover {
namespace {

std::string proc_path(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

std::string area_name(const MemoryArea& area) {
  char at[32];
  std::snprintf(at, sizeof at, "%#llx", static_cast<unsigned long long>(area.range.start.value()));
  return (area.name.empty() ? "anonymous memory" : area.name) + " at " + at;
}

/// The words for memory that cannot travel, or nothing.
const char* why_unmovable(const MemoryArea& area) {
  const AreaFlags& f = area.flags;
  if (f.hugetlb) return "huge pages of hugetlbfs";
  if (f.pfn_map || f.io || f.mixed_map) return "memory of a device";
  if (f.shadow_stack) return "a shadow stack";
  if (f.sealed) return "sealed memory";  // it could not be dropped
  if (f.userfault) return "memory watched by a userfaultfd";
  if (area.protection_key != 0) return "memory under a protection key";
  if (area.name.starts_with("/secretmem") || area.name == "[secretmem]") return "secret memory";
  if (area.shared && f.may_write && !is_written_back(area)) return "shared writable memory";
  return nullptr;
}

/// Fields 26 to 51 of /proc/PID/stat (proc(5)).
Result<MemoryFields> read_memory_fields(pid_t pid) {
  DROVER_TRY(const std::string stat, read_proc_file(proc_path(pid, "stat")));
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos) return refusal("the process's stat is not as expected");
  std::array<std::uint64_t, 53> field{};
  const char* p = stat.c_str() + name_end + 4;  // ") S "
  for (std::size_t i = 4; i < field.size() && *p; ++i) {
    char* end = nullptr;
    field[i] = *p == '-' ? static_cast<std::uint64_t>(std::strtoll(p, &end, 10))
                         : std::strtoull(p, &end, 10);
    p = *end == ' ' ? end + 1 : end;
  }
  MemoryFields m;
  m.start_code = field[26], m.end_code = field[27], m.start_stack = field[28];
  m.start_data = field[45], m.end_data = field[46], m.start_brk = field[47];
  m.arg_start = field[48], m.arg_end = field[49];
  m.env_start = field[50], m.env_end = field[51];
  if (m.start_code == 0) return Error{EACCES, "read the memory fields of the process"};
  return m;
}

/// If the thread was stopped inside the vDSO, lets it go on to the first instruction outside:
/// its half-done reading of the clock belongs to this machine. Signals wait meanwhile.
Status step_out_of(const TracedThread& thread, const ForeignMemory& memory, ForeignRange vdso) {
  constexpr int kMaxSteps = 100'000;  // a vDSO call is some hundred instructions; seqlock retries
  DROVER_TRY(Registers r, thread.registers());
  if (!vdso.contains(ForeignAddress(r.rip))) return {};
  // In a call of its own, or about to make one, it holds nothing that it has read of a clock.
  if (static_cast<std::int64_t>(r.orig_rax) >= 0 && is_restart(static_cast<std::int64_t>(r.rax))) {
    return {};
  }
  const auto at_call = [&]() -> bool {
    constexpr std::uint16_t kSyscallInstruction = 0x050f;
    const auto code = memory.read_record<std::uint16_t>(ForeignAddress(r.rip));
    return code && *code == kSyscallInstruction;
  };
  DROVER_TRY(const SignalMask mask, thread.signal_mask());
  int signal = 0;  // a SIGSTOP, which no mask holds back
  bool met_stop = false;
  DROVER_CHECK(thread.set_signal_mask(kAllSignals));
  for (int i = 0; i < kMaxSteps && vdso.contains(ForeignAddress(r.rip)) && !at_call(); ++i) {
    DROVER_CHECK(thread.step(signal));
    DROVER_TRY(const Stop stop, thread.wait_while_held());
    signal = stop.kind == Stop::Kind::kSignal && stop.signal == SIGSTOP ? SIGSTOP : 0;
    met_stop = met_stop || signal != 0 || stop.kind == Stop::Kind::kGroupStop;
    DROVER_TRY(r, thread.registers());
  }
  if (signal != 0) {
    DROVER_CHECK(thread.interrupt());
    DROVER_CHECK(thread.resume(signal));
    DROVER_CHECK(thread.wait_while_held());
  }
  DROVER_CHECK(thread.set_signal_mask(mask));
  if (met_stop) DROVER_CHECK(thread.interrupt());  // it tells of it when it is let go
  if (vdso.contains(ForeignAddress(r.rip)) && !at_call()) {
    return refusal("it does not leave the vDSO");
  }
  return {};
}

}  // namespace

std::uint32_t area_flags(const MemoryArea& area) {
  const AreaFlags& f = area.flags;
  std::uint32_t flags = 0;
  if (f.no_reserve) flags |= Area::kNoReserve;
  if (f.dont_fork) flags |= Area::kDontFork;
  if (f.wipe_on_fork) flags |= Area::kWipeOnFork;
  if (f.huge) flags |= Area::kHugePage;
  if (f.no_huge) flags |= Area::kNoHugePage;
  if (f.dont_dump) flags |= Area::kDontDump;
  if (f.locked) flags |= Area::kLocked;
  if (f.droppable) flags |= Area::kDroppable;
  if (area.shared) flags |= Area::kWasShared;
  return flags;
}

Result<std::vector<MemoryArea>> read_memory_areas(pid_t pid) {
  DROVER_TRY(const std::string smaps, read_proc_file(proc_path(pid, "smaps")));
  return parse_smaps(smaps);
}

std::vector<MemoryArea> without(std::vector<MemoryArea> areas, ForeignRange range) {
  std::vector<MemoryArea> rest;
  for (MemoryArea& area : areas) {
    if (!area.range.overlaps(range)) {
      rest.push_back(std::move(area));
      continue;
    }
    if (area.range.start < range.start) {
      MemoryArea below = area;
      below.range.end = range.start;
      rest.push_back(std::move(below));
    }
    if (range.end < area.range.end) {
      MemoryArea above = std::move(area);
      if (above.file_backed()) above.file_offset += range.end - above.range.start;
      above.range.start = range.end;
      rest.push_back(std::move(above));
    }
  }
  return rest;
}

Result<Sha256Digest> digest_of_vdso(const ForeignMemory& memory, ForeignRange vdso) {
  Bytes image(vdso.size());
  DROVER_CHECK(memory.read(vdso.start, image));
  DROVER_TRY(const std::uint64_t loaded, loaded_size(image));
  DROVER_TRY(const std::string maps, read_proc_file("/proc/self/maps"));
  DROVER_TRY(const auto areas, parse_maps(maps));
  DROVER_TRY(const ForeignRange ours, find_vdso(areas));
  if (ours.size() == vdso.size()) {
    const auto* rest = reinterpret_cast<const std::byte*>(ours.start.value() + loaded);
    std::copy_n(rest, vdso.size() - loaded, image.begin() + static_cast<std::ptrdiff_t>(loaded));
  }
  Sha256 digest;
  digest.update(image);
  return digest.finish();
}

bool is_written_back(const MemoryArea& area) {
  constexpr std::string_view kDirectory = "/tmp/hsperfdata_";
  const std::string_view name = area.name;
  const std::size_t file = name.rfind('/') + 1;
  return area.shared && area.flags.may_write && !area.deleted && name.starts_with(kDirectory) &&
         name.find('/', kDirectory.size()) + 1 == file && file < name.size() &&
         name.find_first_not_of("0123456789", file) == std::string_view::npos;
}

Status check_areas_can_move(const std::vector<MemoryArea>& areas) {
  for (const MemoryArea& area : areas) {
    if (area.special()) continue;
    if (const char* why = why_unmovable(area)) {
      return refusal("it has " + std::string(why) + " (" + area_name(area) + ")");
    }
  }
  return {};
}

Result<Layout> layout_of(const std::vector<MemoryArea>& areas, const HomeContents& contents,
                         const Scratch& scratch) {
  Layout layout;
  layout.scratch = scratch.range();
  for (const MemoryArea& m : areas) {
    if (m.special()) {
      if (m.name != "[vsyscall]") layout.specials.push_back({m.range, m.name});
      continue;
    }
    Area area;
    area.range = m.range;
    area.protection = static_cast<std::uint32_t>(m.protection);
    area.flags = area_flags(m);
    if (m.file_backed() && !is_written_back(m)) {
      const auto place = contents.find(m);
      if (!place) return refusal("a file mapping appeared unseen (" + area_name(m) + ")");
      area.kind = AreaKind::kContent;
      area.content = place->index;
      area.content_offset = place->offset;
    } else {
      area.kind = m.flags.grows_down ? AreaKind::kStack : AreaKind::kAnonymous;
    }
    layout.areas.push_back(area);
  }
  return layout;
}

Result<ThreadState> capture_thread(const TracedThread& thread, const ForeignMemory& memory,
                                   ForeignRange vdso) {
  ThreadState t;
  t.tid = thread.tid();
  DROVER_TRY(t.rseq, thread.rseq());
  DROVER_CHECK(abort_rseq_section(thread, memory, t.rseq));
  DROVER_CHECK(step_out_of(thread, memory, vdso));
  DROVER_TRY(t.registers, thread.registers());
  DROVER_TRY(t.extended_state, thread.extended_state());
  DROVER_TRY(t.mask, thread.signal_mask());
  t.mask_at_home = t.mask;
  DROVER_TRY(t.name, read_proc_file(proc_path(thread.tid(), "comm")));
  if (!t.name.empty() && t.name.back() == '\n') t.name.pop_back();
  if (syscall(SYS_get_robust_list, thread.tid(), &t.robust_list, &t.robust_list_size) != 0) {
    return errno_error("get the robust list of the process");
  }
  return t;
}

Status complete_thread(Injection& injection, const ForeignMemory& memory, const Scratch& scratch,
                       ThreadState& thread) {
  DROVER_CHECK(injection.call("prctl(PR_GET_TID_ADDRESS)", SYS_prctl,
                              {PR_GET_TID_ADDRESS, scratch.data().value()}));
  DROVER_TRY(thread.clear_child_tid, memory.read_record<std::uint64_t>(scratch.data()));
  return read_alternate_stack(injection, memory, scratch, thread);
}

Status read_alternate_stack(Injection& injection, const ForeignMemory& memory,
                            const Scratch& scratch, ThreadState& thread) {
  DROVER_CHECK(injection.call("sigaltstack", SYS_sigaltstack, {0, scratch.data().value()}));
  DROVER_TRY(thread.alternate_stack, memory.read_record<stack_t>(scratch.data()));
  // Whether the thread is on that stack follows from its stack pointer, which was ours here.
  thread.alternate_stack.ss_flags &= ~SS_ONSTACK;
  return {};
}

Result<ProcessState> capture_process(pid_t pid, Injection& leader, const ForeignMemory& memory,
                                     const Scratch& scratch) {
  ProcessState s;
  DROVER_TRY(s.memory, read_memory_fields(pid));
  DROVER_TRY(s.memory.brk, leader.call("brk", SYS_brk));
  DROVER_TRY(const std::string auxv, read_proc_file(proc_path(pid, "auxv")));
  const ByteView auxv_bytes = as_bytes(auxv);
  s.auxiliary_vector.assign(auxv_bytes.begin(), auxv_bytes.end());
  DROVER_TRY(s.personality, leader.call("personality", SYS_personality, {0xffffffff}));
  constexpr int kArchGetXcompPerm = 0x1022;
  const ForeignAddress at = scratch.data();
  DROVER_TRY(const std::int64_t known, leader.raw(SYS_arch_prctl, {kArchGetXcompPerm, at.value()}));
  if (known == 0) {  // else a kernel without AMX
    DROVER_TRY(s.extended_permission, memory.read_record<std::uint64_t>(at));
  }
  constexpr int kMembarrierGetRegistrations = 1 << 9;
  DROVER_TRY(const std::int64_t barriers,
             leader.raw(SYS_membarrier, {kMembarrierGetRegistrations}));
  s.membarrier = barriers > 0 ? static_cast<std::uint64_t>(barriers) : 0;  // older kernels: EINVAL
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    DROVER_CHECK(leader.call("rt_sigaction", SYS_rt_sigaction,
                             {static_cast<std::uint64_t>(signal), 0, scratch.data().value(), 8}));
    DROVER_TRY(s.actions[static_cast<std::size_t>(signal - 1)],
               memory.read_record<KernelSigaction>(scratch.data()));
  }
  DROVER_TRY(s.coarse_ns, read_clock(leader, memory, scratch, CLOCK_MONOTONIC_COARSE));
  DROVER_TRY(s.monotonic_ns, read_clock(leader, memory, scratch, CLOCK_MONOTONIC));
  DROVER_TRY(s.boottime_ns, read_clock(leader, memory, scratch, CLOCK_BOOTTIME));
  return s;
}

}  // namespace drover
