#include "migrate/hollow_process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <ctime>

#include "common/log.h"
#include "common/process/queued_signal.h"
#include "migrate/area_mapping.h"
#include "migrate/returned_signals.h"

namespace drover {
namespace {

constexpr int kMadvDontneedLocked = 24;  // Linux 5.18
constexpr std::uint64_t kDropPiece = 16 << 20;
constexpr int kMostDropCalls = 64;  // of one piece
constexpr std::chrono::seconds kEndPatience{1};

/// Whether a signal that was taken from a thread goes back to the process. It is that thread's,
/// unless the program has made the thread block it since; what a handler blocks comes at its end.
bool is_to_process(const siginfo_t& info, const ThreadState& thread, pid_t process) {
  const SignalMask blocked = thread.mask & ~thread.blocked_by_handlers;
  return !is_for_thread(info, process) && (blocked & signal_bit(info.si_signo)) != 0;
}

template <class T>
auto at_address(const std::vector<T>& list, ForeignAddress a) -> const T* {
  const auto it =
      std::partition_point(list.begin(), list.end(), [&](const T& t) { return t.range.end <= a; });
  return it != list.end() && it->range.contains(a) ? &*it : nullptr;
}

}  // namespace

Status clear_registrations(Injection& injection, const ForeignMemory& memory,
                           const ThreadState& thread) {
  std::vector<InjectedCall> calls;
  if (thread.rseq.pointer != 0) {
    constexpr std::uint64_t kUnregister = 1;
    calls.push_back({"rseq",
                     SYS_rseq,
                     {thread.rseq.pointer, thread.rseq.size, kUnregister, thread.rseq.signature}});
  }
  if (thread.robust_list != 0) {
    calls.push_back({"set_robust_list", SYS_set_robust_list, {0, thread.robust_list_size}});
  }
  calls.push_back({"set_tid_address", SYS_set_tid_address, {0}});
  return injection.call_all(memory, calls);
}

std::vector<InjectedCall> registrations(const ThreadState& thread) {
  std::vector<InjectedCall> calls;
  if (thread.robust_list != 0) {
    calls.push_back(
        {"set_robust_list", SYS_set_robust_list, {thread.robust_list, thread.robust_list_size}});
  }
  calls.push_back({"set_tid_address", SYS_set_tid_address, {thread.clear_child_tid}});
  if (thread.rseq.pointer != 0) {
    calls.push_back(
        {"rseq", SYS_rseq, {thread.rseq.pointer, thread.rseq.size, 0, thread.rseq.signature}});
  }
  return calls;
}

ForeignRange argument_pages(const MemoryFields& memory) {
  const std::uint64_t end = (memory.env_end + kPageSize - 1) / kPageSize * kPageSize;
  return {ForeignAddress(memory.arg_start / kPageSize * kPageSize), ForeignAddress(end)};
}

Status drop_memory(Injection& injection, pid_t pid, const Scratch& scratch, ForeignRange kept) {
  DROVER_TRY(MemoryDrop drop, MemoryDrop::of(pid, scratch, kept));
  while (!drop.done()) DROVER_CHECK(drop.drop_next(injection));
  return {};
}

Result<MemoryDrop> MemoryDrop::of(pid_t pid, const Scratch& scratch, ForeignRange kept) {
  MemoryDrop drop;
  DROVER_TRY(auto areas, read_memory_areas(pid));
  drop.areas_ = without(without(std::move(areas), scratch.range()), kept);
  std::erase_if(drop.areas_, [](const MemoryArea& a) { return a.special() || a.shared; });
  std::ranges::reverse(drop.areas_);
  return drop;
}

Status MemoryDrop::drop_next(Injection& injection) {
  std::uint64_t left = kDropPiece;
  for (int calls = 0; calls < kMostDropCalls && left > 0 && !done(); ++calls) {
    MemoryArea& area = areas_.back();
    const int advice = area.flags.locked ? kMadvDontneedLocked : MADV_DONTNEED;
    const std::uint64_t n = std::min(left, area.range.size());
    DROVER_CHECK(injection.call("madvise", SYS_madvise,
                                {area.range.start.value(), n, static_cast<std::uint64_t>(advice)}));
    left -= n;
    area.range.start = area.range.start + n;
    if (area.range.size() == 0) areas_.pop_back();
  }
  return {};
}

Status remove_scratch(const TracedThread& thread, const ForeignMemory& memory,
                      const Scratch& scratch) {
  DROVER_TRY(Injection injection, Injection::returning(thread, memory));
  DROVER_CHECK(injection.call("munmap", SYS_munmap,
                              {scratch.range().start.value(), scratch.range().size()}));
  return injection.end();
}

Result<std::vector<MemoryArea>> HomeRebuild::areas() const {
  DROVER_TRY(auto all, read_memory_areas(memory_->pid()));
  std::erase_if(all, [](const MemoryArea& a) { return a.special(); });
  return without(std::move(all), thread_->scratch().range());
}

HomeRebuild::~HomeRebuild() {
  if (const Status undone = limits_.undo(); !undone) {
    log_warn("the limits of process {}: {}", memory_->pid(), undone.error().message());
  }
}

Status HomeRebuild::lay_out(const Layout& layout) {
  DROVER_CHECK(limits_.lift(layout, kept_));
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  DROVER_CHECK(drop_memory(injection, memory_->pid(), thread_->scratch(), kept_));
  DROVER_TRY(const std::uint64_t brk, injection.call("brk", SYS_brk, {layout.brk}));
  if (brk != layout.brk) return refusal("there is no room at home for its heap");
  DROVER_TRY(auto before, areas());
  DROVER_CHECK(grow_stack(injection, layout, before));

  DROVER_TRY(const auto have, areas());
  DROVER_CHECK(unmap_all_but_kept(injection, have, layout));
  for (const Area& want : layout.areas) {
    const MemoryArea* kept = kept_for(want, have);
    if (kept) {
      DROVER_CHECK(grow_to(injection, *kept, want.range));
      DROVER_CHECK(change_area(injection, *kept, want));
    } else if (want.kind == AreaKind::kContent) {
      DROVER_CHECK(map_content(injection, want));
    } else {
      DROVER_CHECK(map_area(injection, want, -1));
    }
  }
  return injection.end();
}

// An area that is to be there stays one mapping: calls such as mremap(2) refuse a range that
// two share. So it is kept only where it lies in one mapping of the same memory; or, of a file that
// may be gone by now, where it begins in one.
const MemoryArea* HomeRebuild::kept_for(const Area& want,
                                        const std::vector<MemoryArea>& have) const {
  const MemoryArea* area = at_address(have, want.range.start);
  const bool fits = area && (want.range.end <= area->range.end || want.kind == AreaKind::kContent);
  return fits && same_backing(want.range.start, *area, want) ? area : nullptr;
}

Status HomeRebuild::unmap_all_but_kept(Injection& injection, const std::vector<MemoryArea>& have,
                                       const Layout& layout) {
  auto want = layout.areas.begin();
  for (const MemoryArea& area : have) {
    ForeignAddress at = area.range.start;
    const auto unmap_to = [&](ForeignAddress end) -> Status {
      if (at >= end) return {};
      const auto unmapped = injection.call("munmap", SYS_munmap, {at.value(), end - at});
      return unmapped ? Status{} : Status(unmapped.error());
    };
    while (want != layout.areas.end() && want->range.start < area.range.end) {
      if (kept_for(*want, have) == &area) {
        DROVER_CHECK(unmap_to(want->range.start));
        at = want->range.end;
      }
      if (want->range.end > area.range.end) break;
      ++want;
    }
    DROVER_CHECK(unmap_to(area.range.end));
  }
  return {};
}

// What was behind it is unmapped already.
Status HomeRebuild::grow_to(Injection& injection, const MemoryArea& kept, ForeignRange want) {
  if (want.end <= kept.range.end) return {};
  const auto grown = injection.call(
      "mremap", SYS_mremap, {want.start.value(), kept.range.end - want.start, want.size(), 0});
  return grown ? Status{} : Status(grown.error());
}

// Only a write by the process itself makes the kernel grow a stack.
Status HomeRebuild::grow_stack(Injection& injection, const Layout& layout,
                               const std::vector<MemoryArea>& areas) {
  for (const Area& want : layout.areas) {
    if (want.kind != AreaKind::kStack) continue;
    for (const MemoryArea& have : areas) {
      if (have.flags.grows_down && have.range.end > want.range.start &&
          have.range.start > want.range.start && have.range.end <= want.range.end) {
        DROVER_CHECK(injection.call("getrandom", SYS_getrandom, {want.range.start.value(), 1, 0}));
      }
    }
  }
  return {};
}

// Of the same kind, too: what no call changes in a mapping is had by making a new one.
bool HomeRebuild::same_backing(ForeignAddress at, const MemoryArea& have, const Area& want) const {
  const std::uint32_t flags = area_flags(have);
  if (want.kind != AreaKind::kContent) {
    constexpr std::uint32_t kHugeAdvice = Area::kHugePage | Area::kNoHugePage;
    if ((want.flags & Area::kWasShared) != 0) return have.shared && have.flags.may_write;
    const bool advice_stays = (flags & kHugeAdvice) != 0 && (want.flags & kHugeAdvice) == 0;
    return !have.file_backed() && !advice_stays &&
           have.flags.grows_down == (want.kind == AreaKind::kStack) &&
           (flags & Area::kDroppable) == (want.flags & Area::kDroppable);
  }
  if (want.content >= contents_->all().size()) return false;
  const Content& content = contents_->all()[want.content];
  return have.file_backed() && have.device == content.device && have.inode == content.inode &&
         (flags & Area::kWasShared) == (want.flags & Area::kWasShared) &&
         have.file_offset + (at - have.range.start) ==
             content.file_offset + want.content_offset + (at - want.range.start);
}

// A file mapping that the program has moved or split off while away: the file is opened again,
// and must still be the one that was mapped.
Status HomeRebuild::map_content(Injection& injection, const Area& want) {
  if (want.content >= contents_->all().size()) return refusal("layout: a content that is not ours");
  const Content& content = contents_->all()[want.content];
  const ForeignAddress at = thread_->scratch().data();
  DROVER_CHECK(memory_->write(at, as_bytes(content.path + '\0')));
  const auto at_cwd = static_cast<std::uint64_t>(AT_FDCWD);
  // Whatever stands there by now: a FIFO, say, is not waited for.
  DROVER_TRY(const std::uint64_t fd,
             injection.call(("open " + content.path).c_str(), SYS_openat,
                            {at_cwd, at.value(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0}));
  struct stat st {};
  const std::string link = "/proc/" + std::to_string(memory_->pid()) + "/fd/" + std::to_string(fd);
  Status result;
  if (stat(link.c_str(), &st) != 0 || st.st_ino != content.inode) {
    result = refusal(content.path + " is no longer the file that was mapped");
  } else {
    const std::uint64_t shared = want.flags & Area::kWasShared ? MAP_SHARED : MAP_PRIVATE;
    const auto mapped = injection.call(
        "mmap", SYS_mmap,
        {want.range.start.value(), want.range.size(), want.protection, shared | MAP_FIXED_NOREPLACE,
         fd, content.file_offset + want.content_offset});
    MemoryArea plain;
    plain.protection = static_cast<int>(want.protection);
    result = mapped ? change_area(injection, plain, want) : Status(mapped.error());
  }
  DROVER_CHECK(injection.call("close", SYS_close, {fd}));
  return result;
}

const HollowThread* HomeRebuild::living(pid_t tid) const {
  for (const HollowThread& thread : *threads_) {
    if (thread.tid() == tid && thread.state() != HollowThread::State::kGone) return &thread;
  }
  return nullptr;
}

Status HomeRebuild::load(const ProcessState& state) {
  const auto gone = [](const HollowThread& t) { return t.state() == HollowThread::State::kGone; };
  const auto living_threads = threads_->size() - std::ranges::count_if(*threads_, gone);
  if (state.threads.size() != static_cast<std::size_t>(living_threads)) {
    return refusal("the image has other threads than the process");
  }
  for (const ThreadState& t : state.threads) {
    const HollowThread* thread = living(t.tid);
    if (!thread) return refusal("the image has other threads than the process");
    DROVER_CHECK(load_thread(*thread, t));
  }
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  DROVER_TRY(const std::int64_t now,
             read_clock(injection, *memory_, thread_->scratch(), CLOCK_MONOTONIC));
  if (state.monotonic_ns - now > kMostClockAhead) {
    return refusal("its clock is further ahead than it can be waited for");
  }
  const ForeignAddress at = thread_->scratch().data();
  DROVER_CHECK(memory_->write_record(at, state.actions));
  std::vector<InjectedCall> calls;
  for (std::uint64_t signal = 1; signal <= kSignalCount; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    const ForeignAddress action = at + (signal - 1) * sizeof(KernelSigaction);
    calls.push_back({"rt_sigaction", SYS_rt_sigaction, {signal, action.value(), 0, 8}});
  }
  DROVER_CHECK(injection.call_all(*memory_, calls));
  return injection.end();
}

Status HomeRebuild::load_thread(const HollowThread& thread, const ThreadState& state) const {
  DROVER_TRY(Injection injection, Injection::trapping(thread.thread(), thread.scratch()));
  stack_t stack = state.alternate_stack;
  if (stack.ss_sp == nullptr) stack.ss_flags = SS_DISABLE;
  const ForeignAddress at = thread.scratch().data();
  DROVER_CHECK(memory_->write_record(at, stack));
  DROVER_CHECK(injection.call("sigaltstack", SYS_sigaltstack, {at.value(), 0}));
  return injection.end();
}

// First what another node has said of the threads, which may be refused. The signals last: after
// them comes only what fails if P ends, and then nobody gets them.
Status HomeRebuild::finish(const ProcessState& state) {
  for (const ThreadState& t : state.threads) {
    const TracedThread& thread = living(t.tid)->thread();
    DROVER_CHECK(thread.set_extended_state(t.extended_state));
    DROVER_CHECK(thread.set_registers(t.registers));
  }
  DROVER_CHECK(wait_for_clocks(state));
  DROVER_CHECK(register_and_send(state));
  DROVER_CHECK(limits_.put_back());
  DROVER_CHECK(remove_scratch(thread_->thread(), *memory_, thread_->scratch()));
  for (const ThreadState& t : state.threads) {
    const TracedThread& thread = living(t.tid)->thread();
    DROVER_CHECK(thread.set_signal_mask(t.mask));
    DROVER_CHECK(thread.set_options(PTRACE_O_TRACESYSGOOD));
  }
  // From the first on that is let go the program runs, and may end the others, by execve(2), say,
  // which waits until we have heard of their ends.
  for (const ThreadState& t : state.threads) {
    TracedThread thread = living(t.tid)->thread();
    if (!thread.detach_in_call()) static_cast<void>(thread.wait_within(kEndPatience));
  }
  return {};
}

Status HomeRebuild::register_and_send(const ProcessState& state) {
  const bool alone = state.threads.size() == 1;
  std::vector<siginfo_t> of_process;
  for (const ThreadState& t : state.threads) {
    for (const siginfo_t& info : t.undelivered) {
      if (!alone && is_to_process(info, t, memory_->pid())) of_process.push_back(info);
    }
  }
  struct Done {
    Injection injection;
    const ThreadState* state;
    ReturnedSignals signals;
  };
  std::list<Done> done;
  Status outcome;
  for (const ThreadState& t : state.threads) {
    const HollowThread& thread = *living(t.tid);
    DROVER_TRY(Injection injection, Injection::trapping(thread.thread(), thread.scratch()));
    Done& now =
        done.emplace_back(Done{std::move(injection), &t, ReturnedSignals(thread, *memory_, alone)});
    std::vector<siginfo_t> own = t.undelivered;
    if (!alone) {
      std::erase_if(own,
                    [&](const siginfo_t& info) { return is_to_process(info, t, memory_->pid()); });
    }
    outcome = now.injection.call_all(*memory_, registrations(t));
    if (outcome) {
      const bool leads = &thread == thread_;
      outcome = now.signals.send(now.injection, leads ? of_process : std::vector<siginfo_t>(), own);
    }
    if (!outcome) break;
  }
  for (Done& one : done) {
    if (!outcome) {
      DROVER_CHECK(one.signals.take_back(one.injection));
      ThreadState made = *one.state;
      DROVER_TRY(made.rseq, living(made.tid)->thread().rseq());
      DROVER_CHECK(clear_registrations(one.injection, *memory_, made));
    }
    DROVER_CHECK(one.injection.end());
  }
  return outcome;
}

// The coarse clock is behind the other one by up to a tick, at home by another part of it.
Status HomeRebuild::wait_for_clocks(const ProcessState& state) const {
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  const std::pair<clockid_t, std::int64_t> clocks[] = {{CLOCK_MONOTONIC, state.monotonic_ns},
                                                       {CLOCK_MONOTONIC_COARSE, state.coarse_ns}};
  for (const auto& [clock, reached] : clocks) {
    for (;;) {
      DROVER_TRY(const std::int64_t now,
                 read_clock(injection, *memory_, thread_->scratch(), clock));
      if (now >= reached) break;
      const std::int64_t ahead = reached - now;
      const timespec pause{ahead / 1'000'000'000, ahead % 1'000'000'000};
      nanosleep(&pause, nullptr);
    }
  }
  return injection.end();
}

}  // namespace drover
