#include "migrate/image.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <set>

#include "common/process/scratch.h"

namespace drover {
namespace {

void write_range(WireWriter& w, const ForeignRange& range) {
  w.number(range.start.value());
  w.number(range.end.value());
}

ForeignRange read_range(WireReader& r) {
  const ForeignAddress start(r.number<std::uint64_t>());
  const ForeignAddress end(r.number<std::uint64_t>());
  return {start, end};
}

/// stack_t, with its hole filled.
struct FlatStack {
  explicit FlatStack(const stack_t& stack)
      : start(reinterpret_cast<std::uint64_t>(stack.ss_sp)),
        flags(stack.ss_flags),
        size(stack.ss_size) {}

  std::uint64_t start;
  std::int32_t flags;
  std::uint32_t reserved = 0;
  std::uint64_t size;
};
static_assert(sizeof(FlatStack) == sizeof(stack_t));

constexpr std::uint64_t kUserEnd = 1ULL << 56;
// Sums and differences of two such times are numbers.
constexpr std::int64_t kMaxClock = INT64_MAX / 2;
// What of a state is known.
constexpr std::uint8_t kHasCpu = 1;
constexpr std::uint8_t kHasLimits = 2;
constexpr std::uint8_t kCpuWasTold = 4;
constexpr std::int32_t kMaxPid = 4'194'304;  // PID_MAX_LIMIT, include/linux/threads.h

bool is_page_range(const ForeignRange& range) {
  return range.start < range.end && range.start.value() % kPageSize == 0 &&
         range.end.value() % kPageSize == 0 && range.end.value() <= kUserEnd;
}

/// Whether a stretch of a file can be mapped: an offset and a length as mmap(2) takes them.
bool is_file_range(std::uint64_t offset, std::uint64_t size) {
  return offset % kPageSize == 0 && size <= kUserEnd &&
         offset <= static_cast<std::uint64_t>(INT64_MAX) - size;
}

bool is_scratch_size(std::uint64_t size) {
  const std::size_t threads = Scratch::threads_for(size);
  return threads >= 1 && threads <= kMaxThreads + kSpareThreads;
}

bool is_pid(std::int32_t number) { return number > 1 && number <= kMaxPid; }

bool is_clock(std::int64_t ns) { return ns >= 0 && ns <= kMaxClock; }

Status check_area(const Area& a, const ForeignRange& scratch) {
  constexpr std::uint32_t kProtections = PROT_READ | PROT_WRITE | PROT_EXEC;
  if (!is_page_range(a.range)) return refusal("layout: an impossible area");
  if (a.range.overlaps(scratch)) return refusal("layout: an area over the scratch");
  if ((a.protection & ~kProtections) != 0) return refusal("layout: an unknown protection");
  if (a.kind > AreaKind::kStack) return refusal("layout: an unknown kind of area");
  if ((a.flags & ~Area::kAllFlags) != 0) return refusal("layout: an unknown flag");
  const bool has_content = a.content != 0 || a.content_offset != 0;
  if (a.kind != AreaKind::kContent ? has_content
                                   : !is_file_range(a.content_offset, a.range.size())) {
    return refusal("layout: an impossible content");
  }
  return {};
}

/// The kernel's own mappings are apart from each other, from the areas and from the scratch.
Status check_specials(const Layout& l) {
  std::vector<ForeignRange> taken{l.scratch};
  for (const SpecialArea& s : l.specials) {
    if (!is_page_range(s.range)) return refusal("layout: an impossible area");
    const auto area = std::partition_point(l.areas.begin(), l.areas.end(), [&](const Area& a) {
      return a.range.end <= s.range.start;
    });
    if ((area != l.areas.end() && area->range.overlaps(s.range)) ||
        std::ranges::any_of(taken, [&](const ForeignRange& t) { return t.overlaps(s.range); })) {
      return refusal("layout: areas lie over each other");
    }
    taken.push_back(s.range);
  }
  return {};
}

void write_thread(WireWriter& w, const ThreadState& t, std::uint32_t protocol) {
  w.number(t.tid);
  w.record(t.registers);
  w.number(t.mask);
  w.number(t.mask_at_home);
  w.number(t.blocked_by_handlers);
  w.record(t.rseq);
  w.number(t.robust_list);
  w.number(t.robust_list_size);
  w.number(t.clear_child_tid);
  w.record(FlatStack(t.alternate_stack));
  w.text(t.name);
  w.bytes(t.extended_state);
  w.number(static_cast<std::uint32_t>(t.undelivered.size()));
  for (const siginfo_t& info : t.undelivered) w.record(info);
  if (protocol < 2) return;
  w.record(t.cpu);
  w.number<std::uint8_t>(t.schedule ? 1 : 0);
  w.record(t.schedule.value_or(Schedule{}));
}

ThreadState read_thread(WireReader& r, std::uint32_t protocol) {
  ThreadState t;
  t.tid = r.number<std::int32_t>();
  t.registers = r.record<Registers>();
  t.mask = r.number<SignalMask>();
  t.mask_at_home = r.number<SignalMask>();
  t.blocked_by_handlers = r.number<SignalMask>();
  t.rseq = r.record<RseqRegistration>();
  t.robust_list = r.number<std::uint64_t>();
  t.robust_list_size = r.number<std::uint64_t>();
  t.clear_child_tid = r.number<std::uint64_t>();
  t.alternate_stack = r.record<stack_t>();
  t.name = r.text(64);
  const ByteView state = r.bytes(64 * 1024);
  t.extended_state.assign(state.begin(), state.end());
  const std::uint32_t signals = r.count(sizeof(siginfo_t));
  for (std::uint32_t i = 0; i < signals; ++i) t.undelivered.push_back(r.record<siginfo_t>());
  if (protocol < 2) return t;
  t.cpu = r.record<CpuAccount>();
  const bool scheduled = r.number<std::uint8_t>() != 0;
  const auto schedule = r.record<Schedule>();
  if (scheduled) t.schedule = schedule;
  return t;
}

Status check_threads(const std::vector<ThreadState>& threads) {
  if (threads.empty()) return refusal("process state: no thread");
  std::set<std::int32_t> tids;
  for (const ThreadState& t : threads) {
    if (!is_possible(t.cpu)) return refusal("process state: an impossible CPU time");
    if (t.schedule && !is_possible(*t.schedule)) {
      return refusal("process state: no such niceness");
    }
    if (!is_pid(t.tid)) return refusal("process state: no such tid can be made");
    if (!tids.insert(t.tid).second) return refusal("process state: a thread twice");
    for (const siginfo_t& info : t.undelivered) {
      if (!is_signal(info.si_signo)) return refusal("process state: no such signal");
    }
  }
  return {};
}

}  // namespace

Bytes Identity::encode() const {
  WireWriter w;
  w.text(job);
  w.text(home_node);
  w.text(host_name);
  w.text(domain_name);
  w.number(pid);
  w.number(uid);
  w.number(gid);
  w.number(possible_cpus);
  w.record(vdso_digest);
  return w.take();
}

Result<Identity> Identity::decode(ByteView data) {
  WireReader r(data);
  Identity i;
  i.job = r.text(64);
  i.home_node = r.text(64);
  i.host_name = r.text(64);
  i.domain_name = r.text(64);
  i.pid = r.number<std::int32_t>();
  i.uid = r.number<std::uint32_t>();
  i.gid = r.number<std::uint32_t>();
  i.possible_cpus = r.number<std::uint32_t>();
  i.vdso_digest = r.record<std::array<std::byte, 32>>();
  DROVER_CHECK(r.finish("identity"));
  if (!is_pid(i.pid)) return refusal("identity: no such pid can be made");
  return i;
}

Bytes ContentOffer::encode() const {
  WireWriter w;
  w.number(first_index);
  w.number(static_cast<std::uint32_t>(contents.size()));
  for (const Content& c : contents) {
    w.record(c.key);
    w.number(c.size);
    w.number(c.device);
    w.number(c.inode);
    w.number(c.file_offset);
    w.number(c.mapped_size);
    w.number(c.is_public);
    w.text(c.path);
  }
  return w.take();
}

Result<ContentOffer> ContentOffer::decode(ByteView data) {
  WireReader r(data);
  ContentOffer offer;
  offer.first_index = r.number<std::uint32_t>();
  const std::uint32_t n = r.count(32 + 5 * 8 + 1 + 4);
  if (std::uint64_t{offer.first_index} + n > kMaxContents) {
    return refusal("content offer: too many");
  }
  for (std::uint32_t i = 0; i < n && !r.failed(); ++i) {
    Content c;
    c.key = r.record<std::array<std::byte, 32>>();
    c.size = r.number<std::uint64_t>();
    c.device = r.number<std::uint64_t>();
    c.inode = r.number<std::uint64_t>();
    c.file_offset = r.number<std::uint64_t>();
    c.mapped_size = r.number<std::uint64_t>();
    c.is_public = r.number<std::uint8_t>();
    c.path = r.text(4096);
    if (c.size > c.mapped_size) return refusal("content offer: larger than its mapping");
    if (!is_file_range(c.file_offset, c.mapped_size)) {
      return refusal("content offer: an impossible mapping");
    }
    offer.contents.push_back(std::move(c));
  }
  DROVER_CHECK(r.finish("content offer"));
  return offer;
}

Bytes ContentWant::encode() const {
  WireWriter w;
  w.number(static_cast<std::uint32_t>(indices.size()));
  for (const std::uint32_t i : indices) w.number(i);
  return w.take();
}

Result<ContentWant> ContentWant::decode(ByteView data) {
  WireReader r(data);
  ContentWant want;
  const std::uint32_t n = r.count(4);
  if (n > kMaxContents) return refusal("content want: too many");
  for (std::uint32_t i = 0; i < n; ++i) want.indices.push_back(r.number<std::uint32_t>());
  DROVER_CHECK(r.finish("content want"));
  // One that came twice would be sent twice.
  if (std::ranges::adjacent_find(want.indices, std::greater_equal{}) != want.indices.end()) {
    return refusal("content want: not in order");
  }
  return want;
}

Result<ClockReading> ClockReading::decode(ByteView data) {
  DROVER_TRY(const auto reading, decode_record<ClockReading>(data, "clock reading"));
  if (!is_clock(reading.monotonic_ns) || !is_clock(reading.boottime_ns)) {
    return refusal("clock reading: an impossible time");
  }
  return reading;
}

Bytes Layout::encode() const {
  WireWriter w;
  write_range(w, scratch);
  w.number(brk);
  w.number(static_cast<std::uint32_t>(areas.size()));
  for (const Area& a : areas) {
    write_range(w, a.range);
    w.number(a.protection);
    w.number(a.kind);
    w.number(a.flags);
    w.number(a.content);
    w.number(a.content_offset);
  }
  w.number(static_cast<std::uint32_t>(specials.size()));
  for (const SpecialArea& s : specials) {
    write_range(w, s.range);
    w.text(s.name);
  }
  return w.take();
}

Result<Layout> Layout::decode(ByteView data) {
  WireReader r(data);
  Layout l;
  l.scratch = read_range(r);
  l.brk = r.number<std::uint64_t>();
  if (!r.failed() && (!is_page_range(l.scratch) || !is_scratch_size(l.scratch.size()))) {
    return refusal("layout: an impossible scratch");
  }
  const std::uint32_t areas = r.count(16 + 4 + 1 + 4 + 4 + 8);
  if (areas > kMaxAreas) return refusal("layout: too many areas");
  ForeignAddress previous_end;
  for (std::uint32_t i = 0; i < areas && !r.failed(); ++i) {
    Area a;
    a.range = read_range(r);
    a.protection = r.number<std::uint32_t>();
    a.kind = r.number<AreaKind>();
    a.flags = r.number<std::uint32_t>();
    a.content = r.number<std::uint32_t>();
    a.content_offset = r.number<std::uint64_t>();
    if (r.failed()) break;
    DROVER_CHECK(check_area(a, l.scratch));
    if (a.range.start < previous_end) return refusal("layout: areas lie over each other");
    previous_end = a.range.end;
    l.areas.push_back(a);
  }
  const std::uint32_t specials = r.count(16 + 4);
  if (specials > kMaxSpecials) return refusal("layout: too many areas");
  for (std::uint32_t i = 0; i < specials && !r.failed(); ++i) {
    SpecialArea s;
    s.range = read_range(r);
    s.name = r.text(64);
    l.specials.push_back(std::move(s));
  }
  DROVER_CHECK(r.finish("layout"));
  DROVER_CHECK(check_specials(l));
  return l;
}

Bytes ProcessState::encode(std::uint32_t protocol) const {
  WireWriter w;
  w.record(memory);
  w.bytes(auxiliary_vector);
  w.number(personality);
  w.number(extended_permission);
  w.number(membarrier);
  w.record(actions);
  w.number(static_cast<std::uint32_t>(threads.size()));
  for (const ThreadState& t : threads) write_thread(w, t, protocol);
  w.number(coarse_ns);
  w.number(monotonic_ns);
  w.number(boottime_ns);
  if (protocol < 2) return w.take();
  w.number<std::uint8_t>((cpu ? kHasCpu : 0) | (limits ? kHasLimits : 0) |
                         (cpu_was_told ? kCpuWasTold : 0));
  w.record(cpu.value_or(CpuAccount{}));
  w.record(limits.value_or(MemoryLimits{}));
  return w.take();
}

Result<ProcessState> ProcessState::decode(ByteView data, std::uint32_t protocol) {
  WireReader r(data);
  ProcessState s;
  s.memory = r.record<MemoryFields>();
  const ByteView auxv = r.bytes(4096);
  s.auxiliary_vector.assign(auxv.begin(), auxv.end());
  s.personality = r.number<std::uint64_t>();
  s.extended_permission = r.number<std::uint64_t>();
  s.membarrier = r.number<std::uint64_t>();
  s.actions = r.record<std::array<KernelSigaction, kSignalCount>>();
  const std::uint32_t threads = r.count(sizeof(Registers));
  if (threads > kMaxThreads + kSpareThreads) return refusal("process state: too many threads");
  for (std::uint32_t i = 0; i < threads && !r.failed(); ++i) {
    s.threads.push_back(read_thread(r, protocol));
  }
  s.coarse_ns = r.number<std::int64_t>();
  s.monotonic_ns = r.number<std::int64_t>();
  s.boottime_ns = r.number<std::int64_t>();
  if (protocol >= 2) {
    const auto has = r.number<std::uint8_t>();
    const auto cpu = r.record<CpuAccount>();
    const auto limits = r.record<MemoryLimits>();
    if (!is_possible(cpu)) return refusal("process state: an impossible CPU time");
    if ((has & kHasCpu) != 0) s.cpu = cpu;
    if ((has & kHasLimits) != 0) s.limits = limits;
    s.cpu_was_told = (has & kCpuWasTold) != 0;
  }
  DROVER_CHECK(r.finish("process state"));
  DROVER_CHECK(check_threads(s.threads));
  if (!is_clock(s.coarse_ns) || s.coarse_ns > s.monotonic_ns || !is_clock(s.monotonic_ns) ||
      !is_clock(s.boottime_ns)) {
    return refusal("process state: an impossible time");
  }
  return s;
}

Status check_carries(std::uint32_t protocol, const ProcessState& state) {
  if (protocol >= 2 || !state.cpu_was_told) return {};
  return refusal(
      "version 1 of the protocol, which is spoken on the way, cannot carry the CPU time that the "
      "program has been told of");
}

Bytes HopOrder::encode(std::uint32_t protocol) const {
  WireWriter w;
  w.text(address);
  w.record(ticket);
  w.record(key);
  w.number(epoch);
  if (protocol >= 2) w.number(protocol_between);
  return w.take();
}

Result<HopOrder> HopOrder::decode(ByteView data, std::uint32_t protocol) {
  WireReader r(data);
  HopOrder h;
  h.address = r.text(256);
  h.ticket = r.record<std::array<std::byte, 16>>();
  h.key = r.record<std::array<std::byte, 32>>();
  h.epoch = r.number<std::uint64_t>();
  if (protocol >= 2) h.protocol_between = r.number<std::uint32_t>();
  DROVER_CHECK(r.finish("hop order"));
  return h;
}

}  // namespace drover
