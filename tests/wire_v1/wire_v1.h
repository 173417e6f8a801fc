// What version 1 of the protocol says on a body's data channel, kept as it was released.
//
// This file is not to be changed and takes nothing of the project's own messages: a test that talks
// by it stands for a node that has not been upgraded. It goes when no node speaks version 1 any
// more (docs/protocol.md, "Versions").
//
// A frame is a u32 length of the payload, a u16 type, a u16 zero, and the payload. Numbers are
// little-endian. A blob is a u32 length and its bytes; a text is a blob.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace wire_v1 {

constexpr std::uint32_t kVersion = 1;

enum Type : std::uint16_t {
  kHello = 1,
  kClockAsk,
  kClockTell,
  kClockDone,
  kIdentity = 10,
  kOfferContent,
  kWantContent,
  kContent,
  kLayout,
  kPages,
  kState,
  kImageEnd,
  kReady = 30,
  kFailed,
  kCommit,
  kRunning,
  kRecall,
  kHop,
  kImageRefused,
  kImageSent,
  kDiscard,
  kHeartbeat,
  kEnded,
  kCall = 60,
  kReply,
  kMask,
  kAction,
  kSignal,
  kExit,
  kFatal,
  kMaskSet,
  kNeedHome,
  kThreads,
};

using Bytes = std::vector<std::byte>;
using View = std::span<const std::byte>;

/// Thrown at whatever is not as it was.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Reader {
 public:
  explicit Reader(View data) : rest_(data) {}
  View raw(std::size_t size) {
    if (size > rest_.size()) throw Malformed("too short");
    const View taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  View rest() { return raw(rest_.size()); }
  template <class Number>
  Number number() {
    Number value;
    std::memcpy(&value, raw(sizeof value).data(), sizeof value);
    return value;
  }
  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  std::int32_t i32() { return number<std::int32_t>(); }
  std::int64_t i64() { return number<std::int64_t>(); }
  Bytes blob() {
    const View view = raw(u32());
    return {view.begin(), view.end()};
  }
  std::string text() {
    const View view = raw(u32());
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }
  template <std::size_t N>
  std::array<std::byte, N> bytes() {
    std::array<std::byte, N> value;
    std::memcpy(value.data(), raw(N).data(), N);
    return value;
  }
  void end() const {
    if (!rest_.empty()) throw Malformed("too long");
  }

 private:
  View rest_;
};

class Writer {
 public:
  Writer& raw(View data) {
    out_.insert(out_.end(), data.begin(), data.end());
    return *this;
  }
  template <class Number>
  Writer& number(Number value) {
    return raw({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  Writer& u8(std::uint8_t value) { return number(value); }
  Writer& u16(std::uint16_t value) { return number(value); }
  Writer& u32(std::uint32_t value) { return number(value); }
  Writer& u64(std::uint64_t value) { return number(value); }
  Writer& i32(std::int32_t value) { return number(value); }
  Writer& i64(std::int64_t value) { return number(value); }
  Writer& blob(View data) { return u32(static_cast<std::uint32_t>(data.size())).raw(data); }
  Writer& text(const std::string& s) {
    return blob({reinterpret_cast<const std::byte*>(s.data()), s.size()});
  }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

/// Reads a whole message.
template <class Message>
Message read(View payload) {
  Reader r(payload);
  Message message = Message::read(r);
  r.end();
  return message;
}

struct Hello {
  std::uint32_t version = kVersion;
  std::string job;
  std::uint64_t epoch = 0;

  static Hello read(Reader& r) { return {r.u32(), r.text(), r.u64()}; }
  Bytes write() const { return Writer().u32(version).text(job).u64(epoch).take(); }
};

struct ClockReading {
  std::int64_t monotonic_ns = 0, boottime_ns = 0;

  static ClockReading read(Reader& r) { return {r.i64(), r.i64()}; }
  Bytes write() const { return Writer().i64(monotonic_ns).i64(boottime_ns).take(); }
};

struct Identity {
  std::string job, home_node, host_name, domain_name;
  std::int32_t pid = 0;
  std::uint32_t uid = 0, gid = 0, possible_cpus = 0;
  std::array<std::byte, 32> vdso_digest{};

  static Identity read(Reader& r) {
    return {r.text(), r.text(), r.text(), r.text(),     r.i32(),
            r.u32(),  r.u32(),  r.u32(),  r.bytes<32>()};
  }
  Bytes write() const {
    Writer w;
    w.text(job).text(home_node).text(host_name).text(domain_name);
    return w.i32(pid).u32(uid).u32(gid).u32(possible_cpus).raw(vdso_digest).take();
  }
};

struct Content {
  std::array<std::byte, 32> key{};
  std::uint64_t size = 0, device = 0, inode = 0, file_offset = 0, mapped_size = 0;
  std::uint8_t is_public = 0;
  std::string path;
};

struct ContentOffer {
  std::uint32_t first_index = 0;
  std::vector<Content> contents;

  static ContentOffer read(Reader& r) {
    ContentOffer offer;
    offer.first_index = r.u32();
    for (std::uint32_t left = r.u32(); left > 0; --left)
      offer.contents.push_back(
          {r.bytes<32>(), r.u64(), r.u64(), r.u64(), r.u64(), r.u64(), r.u8(), r.text()});
    return offer;
  }
  Bytes write() const {
    Writer w;
    w.u32(first_index).u32(static_cast<std::uint32_t>(contents.size()));
    for (const Content& c : contents) {
      w.raw(c.key).u64(c.size).u64(c.device).u64(c.inode).u64(c.file_offset).u64(c.mapped_size);
      w.u8(c.is_public).text(c.path);
    }
    return w.take();
  }
};

struct ContentWant {
  std::vector<std::uint32_t> indices;

  static ContentWant read(Reader& r) {
    ContentWant want;
    for (std::uint32_t left = r.u32(); left > 0; --left) want.indices.push_back(r.u32());
    return want;
  }
  Bytes write() const {
    Writer w;
    w.u32(static_cast<std::uint32_t>(indices.size()));
    for (const std::uint32_t index : indices) w.u32(index);
    return w.take();
  }
};

struct ContentPiece {
  std::uint32_t index = 0, zero = 0;
  std::uint64_t offset = 0;
  Bytes data;

  static ContentPiece read(Reader& r) {
    ContentPiece piece{r.u32(), r.u32(), r.u64(), {}};
    const View data = r.rest();
    piece.data.assign(data.begin(), data.end());
    return piece;
  }
  Bytes write() const { return Writer().u32(index).u32(zero).u64(offset).raw(data).take(); }
};

struct Range {
  std::uint64_t start = 0, end = 0;
};

struct Area {
  Range range;
  std::uint32_t protection = 0;
  std::uint8_t kind = 0;  // anonymous, content, stack
  std::uint32_t flags = 0, content = 0;
  std::uint64_t content_offset = 0;
};

struct SpecialArea {
  Range range;
  std::string name;
};

struct Layout {
  Range scratch;
  std::uint64_t brk = 0;
  std::vector<Area> areas;
  std::vector<SpecialArea> specials;

  static Layout read(Reader& r) {
    Layout layout{{r.u64(), r.u64()}, r.u64(), {}, {}};
    for (std::uint32_t left = r.u32(); left > 0; --left)
      layout.areas.push_back({{r.u64(), r.u64()}, r.u32(), r.u8(), r.u32(), r.u32(), r.u64()});
    for (std::uint32_t left = r.u32(); left > 0; --left)
      layout.specials.push_back({{r.u64(), r.u64()}, r.text()});
    return layout;
  }
  Bytes write() const {
    Writer w;
    w.u64(scratch.start).u64(scratch.end).u64(brk).u32(static_cast<std::uint32_t>(areas.size()));
    for (const Area& a : areas) {
      w.u64(a.range.start).u64(a.range.end).u32(a.protection).u8(a.kind);
      w.u32(a.flags).u32(a.content).u64(a.content_offset);
    }
    w.u32(static_cast<std::uint32_t>(specials.size()));
    for (const SpecialArea& s : specials) w.u64(s.range.start).u64(s.range.end).text(s.name);
    return w.take();
  }
};

struct Pages {
  std::uint64_t address = 0;
  Bytes data;

  static Pages read(Reader& r) {
    Pages pages{r.u64(), {}};
    const View data = r.rest();
    pages.data.assign(data.begin(), data.end());
    return pages;
  }
  Bytes write() const { return Writer().u64(address).raw(data).take(); }
};

/// siginfo_t as the kernel lays it out.
using SignalInfo = std::array<std::byte, 128>;

struct Action {
  std::uint64_t handler = 0, flags = 0, restorer = 0, mask = 0;

  static Action read(Reader& r) { return {r.u64(), r.u64(), r.u64(), r.u64()}; }
  void write(Writer& w) const { w.u64(handler).u64(flags).u64(restorer).u64(mask); }
};

struct Thread {
  std::int32_t tid = 0;
  std::array<std::uint64_t, 27> registers{};  // user_regs_struct: rdi is 14, orig_rax 15, rip 16
  std::uint64_t mask = 0, mask_at_home = 0, blocked_by_handlers = 0;
  std::uint64_t rseq_pointer = 0;
  std::uint32_t rseq_size = 0, rseq_signature = 0, rseq_flags = 0, rseq_pad = 0;
  std::uint64_t robust_list = 0, robust_list_size = 0, clear_child_tid = 0;
  std::uint64_t stack_start = 0;
  std::int32_t stack_flags = 0;
  std::uint32_t stack_pad = 0;
  std::uint64_t stack_size = 0;
  std::string name;
  Bytes extended_state;
  std::vector<SignalInfo> undelivered;

  static Thread read(Reader& r) {
    Thread t;
    t.tid = r.i32();
    for (std::uint64_t& one : t.registers) one = r.u64();
    t.mask = r.u64(), t.mask_at_home = r.u64(), t.blocked_by_handlers = r.u64();
    t.rseq_pointer = r.u64();
    t.rseq_size = r.u32(), t.rseq_signature = r.u32(), t.rseq_flags = r.u32();
    t.rseq_pad = r.u32();
    t.robust_list = r.u64(), t.robust_list_size = r.u64(), t.clear_child_tid = r.u64();
    t.stack_start = r.u64(), t.stack_flags = r.i32(), t.stack_pad = r.u32();
    t.stack_size = r.u64();
    t.name = r.text();
    t.extended_state = r.blob();
    for (std::uint32_t left = r.u32(); left > 0; --left) t.undelivered.push_back(r.bytes<128>());
    return t;
  }
  void write(Writer& w) const {
    w.i32(tid);
    for (const std::uint64_t one : registers) w.u64(one);
    w.u64(mask).u64(mask_at_home).u64(blocked_by_handlers);
    w.u64(rseq_pointer).u32(rseq_size).u32(rseq_signature).u32(rseq_flags).u32(rseq_pad);
    w.u64(robust_list).u64(robust_list_size).u64(clear_child_tid);
    w.u64(stack_start).i32(stack_flags).u32(stack_pad).u64(stack_size);
    w.text(name).blob(extended_state).u32(static_cast<std::uint32_t>(undelivered.size()));
    for (const SignalInfo& info : undelivered) w.raw(info);
  }
};

struct State {
  std::array<std::uint64_t, 11> memory{};  // prctl_mm_map without its last two fields
  Bytes auxiliary_vector;
  std::uint64_t personality = 0, extended_permission = 0, membarrier = 0;
  std::array<Action, 64> actions{};
  std::vector<Thread> threads;
  std::int64_t coarse_ns = 0, monotonic_ns = 0, boottime_ns = 0;

  static State read(Reader& r) {
    State s;
    for (std::uint64_t& one : s.memory) one = r.u64();
    s.auxiliary_vector = r.blob();
    s.personality = r.u64(), s.extended_permission = r.u64(), s.membarrier = r.u64();
    for (Action& action : s.actions) action = Action::read(r);
    for (std::uint32_t left = r.u32(); left > 0; --left) s.threads.push_back(Thread::read(r));
    s.coarse_ns = r.i64(), s.monotonic_ns = r.i64(), s.boottime_ns = r.i64();
    return s;
  }
  Bytes write() const {
    Writer w;
    for (const std::uint64_t one : memory) w.u64(one);
    w.blob(auxiliary_vector).u64(personality).u64(extended_permission).u64(membarrier);
    for (const Action& action : actions) action.write(w);
    w.u32(static_cast<std::uint32_t>(threads.size()));
    for (const Thread& thread : threads) thread.write(w);
    return w.i64(coarse_ns).i64(monotonic_ns).i64(boottime_ns).take();
  }
};

/// kFailed and kEnded.
struct Words {
  std::string why;

  static Words read(Reader& r) { return {r.text()}; }
  Bytes write() const { return Writer().text(why).take(); }
};

struct Commit {
  std::uint32_t lease_ms = 0;

  static Commit read(Reader& r) { return {r.u32()}; }
  Bytes write() const { return Writer().u32(lease_ms).take(); }
};

/// A guest's; home's is empty.
struct Heartbeat {
  std::uint64_t cpu_ns = 0;

  static Heartbeat read(Reader& r) { return {r.u64()}; }
  Bytes write() const { return Writer().u64(cpu_ns).take(); }
};

struct HopOrder {
  std::string address;
  std::array<std::byte, 16> ticket{};
  std::array<std::byte, 32> key{};
  std::uint64_t epoch = 0;

  static HopOrder read(Reader& r) { return {r.text(), r.bytes<16>(), r.bytes<32>(), r.u64()}; }
  Bytes write() const { return Writer().text(address).raw(ticket).raw(key).u64(epoch).take(); }
};

struct ImageSent {
  std::uint64_t bytes = 0;

  static ImageSent read(Reader& r) { return {r.u64()}; }
  Bytes write() const { return Writer().u64(bytes).take(); }
};

struct Relocation {
  std::uint32_t where = 0;  // 0x80000000 + number of an argument, or an offset in the data
  std::uint32_t target = 0;
};

struct OutRange {
  std::uint32_t offset = 0, capacity = 0, value_offset = 0, least_result = 0;
  std::int32_t skip = 0;
  std::uint16_t unit = 0;
  std::uint8_t length = 0;  // whole, result, value
  std::uint8_t when = 0;    // succeeded, interrupted, either, always
};

struct Call {
  std::int32_t tid = 0;
  std::uint64_t sequence = 0;
  std::uint32_t signals_seen = 0;
  std::uint8_t goes_on = 0;
  std::int32_t number = 0;
  std::array<std::uint64_t, 6> arguments{};
  std::uint32_t layout_size = 0;
  std::vector<Relocation> relocations;
  std::vector<OutRange> outs;
  Bytes data;

  static Call read(Reader& r) {
    Call c;
    c.tid = r.i32(), c.sequence = r.u64(), c.signals_seen = r.u32(), c.goes_on = r.u8();
    c.number = r.i32();
    for (std::uint64_t& one : c.arguments) one = r.u64();
    c.layout_size = r.u32();
    std::uint32_t relocations = r.u32();
    std::uint32_t outs = r.u32();
    const std::uint32_t size = r.u32();
    for (; relocations > 0; --relocations) c.relocations.push_back({r.u32(), r.u32()});
    for (; outs > 0; --outs)
      c.outs.push_back({r.u32(), r.u32(), r.u32(), r.u32(), r.i32(), r.u16(), r.u8(), r.u8()});
    const View data = r.raw(size);
    c.data.assign(data.begin(), data.end());
    return c;
  }
  Bytes write() const {
    Writer w;
    w.i32(tid).u64(sequence).u32(signals_seen).u8(goes_on).i32(number);
    for (const std::uint64_t one : arguments) w.u64(one);
    w.u32(layout_size).u32(static_cast<std::uint32_t>(relocations.size()));
    w.u32(static_cast<std::uint32_t>(outs.size())).u32(static_cast<std::uint32_t>(data.size()));
    for (const Relocation& one : relocations) w.u32(one.where).u32(one.target);
    for (const OutRange& o : outs) {
      w.u32(o.offset).u32(o.capacity).u32(o.value_offset).u32(o.least_result);
      w.i32(o.skip).u16(o.unit).u8(o.length).u8(o.when);
    }
    return w.raw(data).take();
  }
};

struct Piece {
  std::uint32_t offset = 0, length = 0;
};

struct Reply {
  enum End : std::uint8_t { kDone, kInterrupted, kDisturbed, kHeld, kGoHome };
  std::int32_t tid = 0;
  std::uint64_t sequence = 0;
  std::uint8_t end = kDone;
  std::int64_t result = 0;
  std::vector<Piece> pieces;
  Bytes data;

  static Reply read(Reader& r) {
    Reply reply;
    reply.tid = r.i32(), reply.sequence = r.u64(), reply.end = r.u8();
    reply.result = r.i64();
    std::size_t size = 0;
    for (std::uint32_t left = r.u32(); left > 0; --left) {
      reply.pieces.push_back({r.u32(), r.u32()});
      size += reply.pieces.back().length;
    }
    const View data = r.raw(size);
    reply.data.assign(data.begin(), data.end());
    return reply;
  }
  Bytes write() const {
    Writer w;
    w.i32(tid).u64(sequence).u8(end).i64(result).u32(static_cast<std::uint32_t>(pieces.size()));
    for (const Piece& one : pieces) w.u32(one.offset).u32(one.length);
    return w.raw(data).take();
  }
};

struct Mask {
  std::int32_t tid = 0;
  std::uint32_t wants_answer = 0;
  std::uint64_t mask = 0;

  static Mask read(Reader& r) { return {r.i32(), r.u32(), r.u64()}; }
  Bytes write() const { return Writer().i32(tid).u32(wants_answer).u64(mask).take(); }
};

struct MaskSet {
  std::int32_t tid = 0;

  static MaskSet read(Reader& r) { return {r.i32()}; }
  Bytes write() const { return Writer().i32(tid).take(); }
};

struct ActionChange {
  std::int32_t signal = 0, tid = 0;
  Action action;

  static ActionChange read(Reader& r) { return {r.i32(), r.i32(), Action::read(r)}; }
  Bytes write() const {
    Writer w;
    w.i32(signal).i32(tid);
    action.write(w);
    return w.take();
  }
};

/// Three bytes of it were whatever was in memory.
struct Signal {
  std::int32_t tid = 0;
  std::uint8_t to_thread = 0;
  std::array<std::byte, 3> pad{};
  SignalInfo info{};

  static Signal read(Reader& r) { return {r.i32(), r.u8(), r.bytes<3>(), r.bytes<128>()}; }
  Bytes write() const { return Writer().i32(tid).u8(to_thread).raw(pad).raw(info).take(); }
};

/// The same.
struct Exit {
  std::int32_t tid = 0, status = 0;
  std::uint8_t whole_process = 1;
  std::array<std::byte, 3> pad{};

  static Exit read(Reader& r) { return {r.i32(), r.i32(), r.u8(), r.bytes<3>()}; }
  Bytes write() const { return Writer().i32(tid).i32(status).u8(whole_process).raw(pad).take(); }
};

/// Four bytes.
struct Fatal {
  std::int32_t tid = 0;
  std::uint32_t pad = 0;
  SignalInfo info{};

  static Fatal read(Reader& r) { return {r.i32(), r.u32(), r.bytes<128>()}; }
  Bytes write() const { return Writer().i32(tid).u32(pad).raw(info).take(); }
};

struct NeedHome {
  std::int32_t tid = 0, call = -1;

  static NeedHome read(Reader& r) { return {r.i32(), r.i32()}; }
  Bytes write() const { return Writer().i32(tid).i32(call).take(); }
};

struct Threads {
  std::vector<std::int32_t> tids;

  static Threads read(Reader& r) {
    Threads threads;
    for (std::uint32_t left = r.u32(); left > 0; --left) threads.tids.push_back(r.i32());
    return threads;
  }
  Bytes write() const {
    Writer w;
    w.u32(static_cast<std::uint32_t>(tids.size()));
    for (const std::int32_t tid : tids) w.i32(tid);
    return w.take();
  }
};

/// Reads a frame's payload as what its type says and writes it anew: the same bytes, or Malformed.
/// `from_home`: heartbeats of the two sides differ, and so do the messages without contents.
inline Bytes read_and_write(std::uint16_t type, View payload, bool from_home) {
  switch (type) {
    case kHello:
      return read<Hello>(payload).write();
    case kClockTell:
      return read<ClockReading>(payload).write();
    case kIdentity:
      return read<Identity>(payload).write();
    case kOfferContent:
      return read<ContentOffer>(payload).write();
    case kWantContent:
      return read<ContentWant>(payload).write();
    case kContent:
      return read<ContentPiece>(payload).write();
    case kLayout:
      return read<Layout>(payload).write();
    case kPages:
      return read<Pages>(payload).write();
    case kState:
      return read<State>(payload).write();
    case kFailed:
    case kEnded:
      return read<Words>(payload).write();
    case kCommit:
      return read<Commit>(payload).write();
    case kHeartbeat:
      return from_home ? (Reader(payload).end(), Bytes()) : read<Heartbeat>(payload).write();
    case kHop:
      return read<HopOrder>(payload).write();
    case kImageSent:
      return read<ImageSent>(payload).write();
    case kCall:
      return read<Call>(payload).write();
    case kReply:
      return read<Reply>(payload).write();
    case kMask:
      return read<Mask>(payload).write();
    case kMaskSet:
      return read<MaskSet>(payload).write();
    case kAction:
      return read<ActionChange>(payload).write();
    case kSignal:
      return read<Signal>(payload).write();
    case kExit:
      return read<Exit>(payload).write();
    case kFatal:
      return read<Fatal>(payload).write();
    case kNeedHome:
      return read<NeedHome>(payload).write();
    case kThreads:
      return read<Threads>(payload).write();
    case kClockAsk:
    case kClockDone:
    case kImageEnd:
    case kReady:
    case kRunning:
    case kRecall:
    case kImageRefused:
    case kDiscard:
      Reader(payload).end();
      return {};
    default:
      throw Malformed("no such type: " + std::to_string(type));
  }
}

}  // namespace wire_v1
