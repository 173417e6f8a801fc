#include "migrate/body_builder.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "common/process/memory_map.h"
#include "common/process/new_thread.h"
#include "migrate/area_mapping.h"
#include "migrate/hollow_process.h"
#include "remote-syscall/body_limits.h"
#include "remote-syscall/filter.h"

namespace drover {
namespace {

constexpr int kArchReqXcompPerm = 0x1023;
constexpr int kXfeatureTileData = 18;
constexpr std::uint64_t kHoleAlignment = 1 << 20;

/// Room of `size` bytes that neither the process nor the blank has mapped.
ForeignRange find_hole(const Layout& layout, const std::vector<MemoryArea>& own,
                       std::uint64_t size) {
  std::vector<ForeignRange> taken{layout.scratch};
  for (const Area& a : layout.areas) taken.push_back(a.range);
  for (const SpecialArea& s : layout.specials) taken.push_back(s.range);
  for (const MemoryArea& m : own) taken.push_back(m.range);
  ForeignAddress at(1ULL << 32);
  for (bool moved = true; moved;) {
    moved = false;
    for (const ForeignRange& t : taken) {
      if (t.overlaps({at, at + size})) {
        at = ForeignAddress((t.end.value() + kHoleAlignment) / kHoleAlignment * kHoleAlignment);
        moved = true;
      }
    }
  }
  return {at, at + size};
}

std::vector<MemoryArea> movable_specials(const std::vector<MemoryArea>& areas) {
  std::vector<MemoryArea> specials;
  for (const MemoryArea& a : areas) {
    if (a.special() && a.name != "[vsyscall]") specials.push_back(a);
  }
  return specials;
}

Result<std::vector<MemoryArea>> areas_of(pid_t pid) {
  DROVER_TRY(const std::string maps, read_proc_file("/proc/" + std::to_string(pid) + "/maps"));
  return parse_maps(maps);
}

}  // namespace

BodyBuilder::BodyBuilder(Sandbox::Blank blank) : blank_(std::move(blank)) {}

Result<BodyBuilder> BodyBuilder::over(Sandbox::Blank blank) {
  BodyBuilder builder(std::move(blank));
  Body& body = builder.body_;
  body.pid = builder.blank_.pid;
  body.home_pid = builder.blank_.pid_inside;
  body.memory = ForeignMemory(body.pid, std::move(builder.blank_.mem));
  DROVER_TRY(body.pages, PageMap::over(std::move(builder.blank_.pagemap)));
  body.pidfd = std::move(builder.blank_.pidfd);
  DROVER_TRY(const TracedThread leader,
             TracedThread::seize(body.pid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
  body.threads.push_back({body.pid, body.home_pid, leader});
  DROVER_CHECK(leader.interrupt());
  DROVER_TRY(const Stop stop, leader.wait_for_stop());
  if (stop.gone()) return refusal("the blank process ended");
  return builder;
}

Status BodyBuilder::lay_out(const Layout& layout, const std::vector<OwnedFd>& contents) {
  DROVER_CHECK(empty_out(layout));
  DROVER_CHECK(map_areas(layout, contents));
  return note_mappings(layout);
}

Status BodyBuilder::empty_out(const Layout& layout) {
  DROVER_TRY(const auto own, areas_of(body_.pid));
  const ForeignRange hole = find_hole(layout, own, 16 << 20);
  {
    DROVER_TRY(Injection injection, Injection::returning(leader(), body_.memory));
    DROVER_TRY(const RseqRegistration rseq, leader().rseq());
    if (rseq.pointer != 0) {
      constexpr std::uint64_t kUnregister = 1;
      DROVER_CHECK(
          injection.call("rseq", SYS_rseq, {rseq.pointer, rseq.size, kUnregister, rseq.signature}));
    }
    for (const MemoryArea& a : own) {
      if (a.special()) continue;
      DROVER_CHECK(injection.call("munmap", SYS_munmap, {a.range.start.value(), a.range.size()}));
    }
    DROVER_CHECK(injection.call(
        "mmap", SYS_mmap,
        {hole.start.value(), kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, static_cast<std::uint64_t>(-1), 0}));
  }
  gate_ = hole.start;
  DROVER_CHECK(Scratch(gate_).write_code(body_.memory));
  return place_specials(layout, {hole.start + kPageSize, hole.end});
}

Status BodyBuilder::place_specials(const Layout& layout, ForeignRange hole) {
  DROVER_TRY(const auto now, areas_of(body_.pid));
  const auto own = movable_specials(now);
  DROVER_TRY(Injection injection, Injection::trapping(leader(), Scratch(gate_)));
  const auto move = [&](ForeignRange from, ForeignAddress to) {
    return injection.call(
        "mremap", SYS_mremap,
        {from.start.value(), from.size(), from.size(), MREMAP_MAYMOVE | MREMAP_FIXED, to.value()});
  };
  if (own.size() != layout.specials.size()) return refusal("its kernel's vDSO is another one");
  // By way of the hole: a target may lie where another one still is.
  ForeignAddress at = hole.start;
  std::vector<std::pair<ForeignRange, ForeignAddress>> second;
  for (const MemoryArea& m : own) {
    const auto target = std::find_if(
        layout.specials.begin(), layout.specials.end(),
        [&](const SpecialArea& s) { return s.name == m.name && s.range.size() == m.range.size(); });
    if (target == layout.specials.end()) return refusal("its kernel's vDSO is another one");
    if (at + m.range.size() > hole.end) return refusal("its kernel's vDSO is too large");
    DROVER_CHECK(move(m.range, at));
    second.push_back({{at, at + m.range.size()}, target->range.start});
    at = at + m.range.size();
  }
  for (const auto& [from, to] : second) DROVER_CHECK(move(from, to));
  DROVER_CHECK(injection.call("mmap", SYS_mmap,
                              {layout.scratch.start.value(), layout.scratch.size(), PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                               static_cast<std::uint64_t>(-1), 0}));
  // The room of the other threads only P needs.
  DROVER_CHECK(
      injection.call("mprotect", SYS_mprotect,
                     {layout.scratch.start.value(), Scratch::size_for(1), PROT_READ | PROT_WRITE}));
  body_.scratch = Scratch(layout.scratch.start, Scratch::threads_for(layout.scratch.size()));
  DROVER_CHECK(body_.scratch.write_code(body_.memory));
  DROVER_CHECK(injection.call("mprotect", SYS_mprotect,
                              {layout.scratch.start.value(), kPageSize, PROT_READ | PROT_EXEC}));
  return injection.end();
}

Status BodyBuilder::map_areas(const Layout& layout, const std::vector<OwnedFd>& contents) {
  DROVER_TRY(Injection injection, Injection::trapping(leader(), body_.scratch));
  DROVER_CHECK(injection.call("munmap", SYS_munmap, {gate_.value(), kPageSize}));
  std::multimap<std::uint32_t, const Area*> by_content;
  for (const Area& area : layout.areas) {
    if (area.kind == AreaKind::kContent) {
      if (area.content >= contents.size()) return refusal("layout: a content that was not sent");
      by_content.emplace(area.content, &area);
    } else {
      DROVER_CHECK(map_area(injection, area, -1));
    }
  }
  for (auto it = by_content.begin(); it != by_content.end();) {
    const std::uint32_t index = it->first;
    DROVER_TRY(const std::int64_t fd, receive_fd(injection, contents[index]));
    for (; it != by_content.end() && it->first == index; ++it) {
      DROVER_CHECK(map_area(injection, *it->second, fd));
    }
    DROVER_CHECK(injection.call("close", SYS_close, {static_cast<std::uint64_t>(fd)}));
  }
  return injection.end();
}

/// Hands one of our descriptors to the blank, over the socket between us.
Result<std::int64_t> BodyBuilder::receive_fd(Injection& injection, const OwnedFd& fd) {
  DROVER_CHECK(blank_.pass(fd));
  struct Message {
    msghdr header;
    iovec vector;
    char byte[8];
    alignas(8) char control[CMSG_SPACE(sizeof(int))];
  } message{};
  const ForeignAddress at = body_.scratch.data();
  const auto foreign = [&](std::size_t offset) {
    return reinterpret_cast<void*>(at.value() + offset);
  };
  message.vector = {foreign(offsetof(Message, byte)), sizeof message.byte};
  message.header.msg_iov = static_cast<iovec*>(foreign(offsetof(Message, vector)));
  message.header.msg_iovlen = 1;
  message.header.msg_control = foreign(offsetof(Message, control));
  message.header.msg_controllen = sizeof message.control;
  DROVER_CHECK(body_.memory.write_record(at, message));
  DROVER_CHECK(injection.call("recvmsg", SYS_recvmsg,
                              {Sandbox::kBlankSocket, at.value(), MSG_CMSG_CLOEXEC}));
  DROVER_TRY(message, body_.memory.read_record<Message>(at));
  cmsghdr control{};
  std::memcpy(&control, message.control, sizeof control);
  if (message.header.msg_controllen < sizeof message.control - 4 ||
      control.cmsg_type != SCM_RIGHTS) {
    return refusal("the blank process did not get a descriptor");
  }
  int number = -1;
  std::memcpy(&number, message.control + sizeof(cmsghdr), sizeof number);
  return number;
}

Status BodyBuilder::note_mappings(const Layout& layout) {
  DROVER_TRY(const auto now, areas_of(body_.pid));
  for (const Area& area : layout.areas) {
    if (area.kind != AreaKind::kContent) continue;
    for (const MemoryArea& m : now) {
      if (m.range.contains(area.range.start)) mapped_.add(m.device, m.inode, area.content);
    }
  }
  return {};
}

Status BodyBuilder::load(const ProcessState& state, const Identity& identity) {
  {
    DROVER_TRY(Injection injection, Injection::trapping(leader(), body_.scratch));
    DROVER_CHECK(load_process(injection, state));
    DROVER_CHECK(injection.call("close_range", SYS_close_range, {0, ~0U, 0}));
    DROVER_CHECK(injection.end());
  }
  DROVER_CHECK(confine_cpus(identity.possible_cpus));
  DROVER_CHECK(make_threads(state));
  DROVER_CHECK(install_filter());
  body_.actions = state.actions;
  return {};
}

Status BodyBuilder::make_threads(const ProcessState& state) {
  for (const ThreadState& t : state.threads) {
    if (t.tid != body_.home_pid) DROVER_CHECK(make_thread(t.tid));
  }
  auto thread = body_.threads.begin();
  for (const ThreadState& t : state.threads) {
    DROVER_CHECK(load_thread(*thread, t));
    thread->clear_child_tid = t.clear_child_tid;
    thread->declared_mask = t.mask_at_home;
    thread->blocked_by_handlers = t.blocked_by_handlers;
    ++thread;
  }
  return {};
}

Status BodyBuilder::make_thread(std::int32_t home_tid) {
  clone_args wanted{};
  wanted.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  DROVER_TRY(const NewThread made,
             drover::make_thread(leader(), body_.memory, body_.scratch, wanted, home_tid));
  if (made.result < 0) return Error{static_cast<int>(-made.result), "make a thread of the body"};
  body_.threads.push_back({made.thread.tid(), home_tid, made.thread});
  return {};
}

Status BodyBuilder::load_process(Injection& injection, const ProcessState& state) {
  const ForeignAddress at = body_.scratch.data();
  const ForeignAddress auxv_at = at + 512;
  struct {
    MemoryFields fields;
    std::uint64_t auxv;
    std::uint32_t auxv_size;
    std::uint32_t exe_fd;
  } map{state.memory, auxv_at.value(), static_cast<std::uint32_t>(state.auxiliary_vector.size()),
        ~0U};
  DROVER_CHECK(body_.memory.write_record(at, map));
  DROVER_CHECK(body_.memory.write(auxv_at, state.auxiliary_vector));
  DROVER_CHECK(injection.call("prctl(PR_SET_MM_MAP)", SYS_prctl,
                              {PR_SET_MM, PR_SET_MM_MAP, at.value(), sizeof map, 0}));
  DROVER_CHECK(injection.call("personality", SYS_personality, {state.personality}));
  if ((state.extended_permission >> kXfeatureTileData & 1) != 0) {
    DROVER_CHECK(
        injection.call("arch_prctl", SYS_arch_prctl, {kArchReqXcompPerm, kXfeatureTileData}));
  }
  for (std::uint64_t bit = 1; bit != 0 && bit <= state.membarrier; bit <<= 1) {
    if ((state.membarrier & bit) == 0) continue;
    DROVER_CHECK(injection.call("membarrier", SYS_membarrier, {bit}));
  }
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    const KernelSigaction& action = state.actions[static_cast<std::size_t>(signal - 1)];
    if (signal == SIGKILL || signal == SIGSTOP || (action.handler == 0 && action.flags == 0)) {
      continue;
    }
    DROVER_CHECK(body_.memory.write_record(at, action));
    DROVER_CHECK(injection.call("rt_sigaction", SYS_rt_sigaction,
                                {static_cast<std::uint64_t>(signal), at.value(), 0, 8}));
  }
  return {};
}

Status BodyBuilder::load_thread(const BodyThread& thread, const ThreadState& state) {
  DROVER_TRY(Injection injection, Injection::trapping(thread.thread, body_.scratch));
  struct {
    stack_t stack;
    std::array<char, 16> name;
  } data{state.alternate_stack, {}};
  state.name.copy(data.name.data(), data.name.size() - 1);
  const ForeignAddress at = body_.scratch.data();
  DROVER_CHECK(body_.memory.write_record(at, data));
  const ForeignAddress name_at = at + offsetof(decltype(data), name);
  // The stack also if there is none: the blank may have one from the program that made it.
  std::vector<InjectedCall> calls = registrations(state);
  calls.push_back({"sigaltstack", SYS_sigaltstack, {at.value(), 0}});
  calls.push_back({"prctl(PR_SET_NAME)", SYS_prctl, {PR_SET_NAME, name_at.value()}});
  DROVER_CHECK(injection.call_all(body_.memory, calls));
  return injection.end();
}

Status BodyBuilder::confine_cpus(std::uint32_t possible_cpus) {
  cpu_set_t set;
  if (sched_getaffinity(body_.pid, sizeof set, &set) != 0) {
    return errno_error("get the CPUs of the body");
  }
  for (std::uint32_t cpu = possible_cpus; cpu < CPU_SETSIZE; ++cpu) CPU_CLR(cpu, &set);
  if (CPU_COUNT(&set) == 0) return refusal("no CPU here has an id that the home node has too");
  if (sched_setaffinity(body_.pid, sizeof set, &set) != 0) {
    return errno_error("confine the body to the home node's CPU ids");
  }
  body_.cpus = std::bit_cast<CpuSet>(set);
  return {};
}

Status BodyBuilder::install_filter() {
  const std::vector<sock_filter> filter =
      build_filter(body_.home_pid, body_.scratch.in_trapping_call());
  const ForeignAddress at = body_.scratch.data();
  const ForeignAddress code_at = at + 64;
  sock_fprog program{static_cast<unsigned short>(filter.size()),
                     reinterpret_cast<sock_filter*>(code_at.value())};
  DROVER_CHECK(body_.memory.write_record(at, program));
  DROVER_CHECK(body_.memory.write(code_at, std::as_bytes(std::span(filter))));
  std::uint64_t fd = 0;
  {
    DROVER_TRY(Injection injection, Injection::trapping(leader(), body_.scratch));
    DROVER_TRY(fd, injection.call(
                       "seccomp", SYS_seccomp,
                       {SECCOMP_SET_MODE_FILTER,
                        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
                            SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
                        at.value()}));
    DROVER_CHECK(injection.end());
  }
  body_.listener.reset(
      static_cast<int>(syscall(SYS_pidfd_getfd, body_.pidfd.get(), static_cast<int>(fd), 0)));
  if (!body_.listener) return errno_error("take over the body's system call listener");
  DROVER_TRY(Injection injection, Injection::trapping(leader(), body_.scratch));
  DROVER_CHECK(injection.call("close", SYS_close, {fd}));
  return injection.end();
}

Result<Body> BodyBuilder::finish(const ProcessState& state) {
  auto thread = body_.threads.begin();
  for (const ThreadState& t : state.threads) {
    DROVER_CHECK(thread->thread.set_extended_state(t.extended_state));
    DROVER_CHECK(thread->thread.set_signal_mask(t.mask));
    DROVER_CHECK(thread->thread.set_registers(t.registers));
    thread->schedule = t.schedule;
    if (t.schedule) follow_schedule(thread->tid, *t.schedule, body_.cpus);
    ++thread;
  }
  if (state.limits) DROVER_CHECK(limit_body(body_, *state.limits));
  return std::move(body_);
}

}  // namespace drover
