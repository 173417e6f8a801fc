#include "migrate/body_image.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <sstream>

#include "migrate/capture.h"
#include "migrate/content_transfer.h"
#include "migrate/page_stream.h"

namespace drover {
namespace {

std::int64_t now_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

struct OwnOffsets {
  std::int64_t monotonic_ns = 0;
  std::int64_t boottime_ns = 0;
};

/// The offsets of the time namespace that we are in; none where the kernel has no such thing.
Result<OwnOffsets> own_time_offsets() {
  OwnOffsets own;
  const auto text = read_proc_file("/proc/self/timens_offsets");
  if (!text) return own;
  std::istringstream lines(*text);
  std::string clock;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  while (lines >> clock >> seconds >> nanoseconds) {
    const std::int64_t offset = seconds * 1'000'000'000 + nanoseconds;
    if (clock == "monotonic" || clock == "1") own.monotonic_ns = offset;
    if (clock == "boottime" || clock == "7") own.boottime_ns = offset;
  }
  return own;
}

Result<Sha256Digest> own_vdso_digest() {
  DROVER_TRY(const std::string maps, read_proc_file("/proc/self/maps"));
  DROVER_TRY(const auto areas, parse_maps(maps));
  DROVER_TRY(const ForeignRange vdso, find_vdso(areas));
  const auto* code = reinterpret_cast<const std::byte*>(vdso.start.value());
  Sha256 digest;
  digest.update({code, vdso.size()});
  return digest.finish();
}

}  // namespace

Result<bool> ImageReceiver::on_frame(const Frame& frame, SecureChannel& channel) {
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kIdentity: {
      DROVER_TRY(const Identity identity, Identity::decode(frame.payload));
      DROVER_CHECK(on_identity(identity));
      return false;
    }
    case FrameType::kOfferContent: {
      DROVER_TRY(const ContentOffer offer, ContentOffer::decode(frame.payload));
      DROVER_TRY(const ContentWant want, contents_.on_offer(offer));
      DROVER_CHECK(channel.send(type(FrameType::kWantContent), want.encode()));
      return false;
    }
    case FrameType::kContent:
      DROVER_CHECK(contents_.on_piece(frame.payload));
      return false;
    case FrameType::kLayout: {
      DROVER_TRY(Layout layout, Layout::decode(frame.payload));
      DROVER_CHECK(on_layout(std::move(layout)));
      return false;
    }
    case FrameType::kPages: {
      if (!layout_) return refusal("pages before the layout");
      DROVER_TRY(const std::uint64_t n,
                 receive_pages(builder_->memory(), layout_->areas, frame.payload));
      page_bytes_ += n;
      return false;
    }
    case FrameType::kState: {
      DROVER_TRY(ProcessState state, ProcessState::decode(frame.payload, channel.protocol()));
      DROVER_CHECK(on_state(std::move(state)));
      return false;
    }
    case FrameType::kImageEnd:
      if (!state_) return refusal("the image ends before it is complete");
      return true;
    default:
      return refusal("unexpected message " + std::to_string(frame.type) + " in an image");
  }
}

Status ImageReceiver::on_identity(const Identity& identity) {
  if (sandbox_) return refusal("a second identity in an image");
  if (identity.uid != hosting_.job_uid) return refusal("the image is of another user's process");
  DROVER_TRY(const Sha256Digest vdso, own_vdso_digest());
  if (identity.vdso_digest != vdso) return refusal("its kernel's vDSO is another one");
  hosted_.identity = identity;
  SandboxSpec spec;
  spec.job_uid = hosting_.job_uid;
  spec.job_gid = hosting_.job_gid;
  spec.outer_uid = hosting_.outer_uid;
  spec.host_name = identity.host_name;
  spec.domain_name = identity.domain_name;
  // Offsets count from the machine's own clocks, and this node may itself live in a time
  // namespace (time_namespaces(7)).
  DROVER_TRY(const OwnOffsets own, own_time_offsets());
  spec.monotonic_offset_ns = own.monotonic_ns + hosting_.home_ahead.monotonic_ns;
  spec.boottime_offset_ns = own.boottime_ns + hosting_.home_ahead.boottime_ns;
  DROVER_TRY(sandbox_, Sandbox::create(spec));
  // Before anything else of the image is read: what made the sandbox is needed no more.
  DROVER_CHECK(enter_guest_root(hosting_.guest_root));
  DROVER_CHECK(confine_self());
  DROVER_TRY(auto blank, sandbox_->make_blank(identity.pid));
  DROVER_TRY(builder_, BodyBuilder::over(std::move(blank)));
  return {};
}

Status ImageReceiver::on_layout(Layout layout) {
  if (!builder_ || layout_) return refusal("a layout out of order");
  HostedContents& contents = contents_.contents();
  for (const Area& area : layout.areas) {
    if (area.kind != AreaKind::kContent) continue;
    if (!contents_.usable(area.content)) return refusal("layout: a content that was not sent");
  }
  DROVER_CHECK(builder_->lay_out(layout, contents.files));
  hosted_.mapped = builder_->mapped();
  layout_ = std::move(layout);
  return {};
}

Status ImageReceiver::on_state(ProcessState state) {
  if (!layout_ || state_) return refusal("a state out of order");
  if (state.threads.front().tid != hosted_.identity.pid) {
    return refusal("the image's first thread is not the process's");
  }
  if (state.threads.size() > Scratch::threads_for(layout_->scratch.size())) {
    return refusal("the image has more threads than its scratch has room for");
  }
  if (ahead_of_clock(state) > kMostClockAhead) {
    return refusal("its clock is further ahead than it can be waited for");
  }
  DROVER_CHECK(builder_->load(state, hosted_.identity));
  hosted_.memory = state.memory;
  hosted_.auxiliary_vector = state.auxiliary_vector;
  hosted_.personality = state.personality;
  hosted_.extended_permission = state.extended_permission;
  hosted_.membarrier = state.membarrier;
  hosted_.cpu = state.cpu;
  hosted_.cpu_was_told = state.cpu_was_told;
  for (const ThreadState& t : state.threads) {
    hosted_.undelivered[t.tid] = t.undelivered;
    hosted_.threads_cpu[t.tid] = t.cpu;
  }
  state_ = std::move(state);
  return {};
}

std::int64_t ImageReceiver::ahead_of_clock(const ProcessState& state) const {
  return state.monotonic_ns - (now_ns(CLOCK_MONOTONIC) + hosting_.home_ahead.monotonic_ns);
}

// The program must never see a clock step back.
Status ImageReceiver::wait_for_clock() const {
  for (;;) {
    const std::int64_t ahead = ahead_of_clock(*state_);
    if (ahead <= 0) return {};
    const timespec pause{ahead / 1'000'000'000, ahead % 1'000'000'000};
    nanosleep(&pause, nullptr);
  }
}

Result<Body> ImageReceiver::take_body() {
  DROVER_CHECK(wait_for_clock());
  hosted_.contents = std::move(contents_.contents());
  return builder_->finish(*state_);
}

namespace {

Layout layout_of_body(const std::vector<MemoryArea>& areas, const HostedImage& hosted,
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
    area.kind = m.flags.grows_down ? AreaKind::kStack : AreaKind::kAnonymous;
    if (const auto index = hosted.mapped.find(m.device, m.inode); m.file_backed() && index) {
      area.kind = AreaKind::kContent;
      area.content = *index;
      area.content_offset = m.file_offset;
    }
    layout.areas.push_back(area);
  }
  return layout;
}

/// Zeros for one that never came: the other side finds that they are not the content either.
Status read_content(const OwnedFd& file, std::uint64_t offset, std::span<std::byte> into) {
  std::fill(into.begin(), into.end(), std::byte{0});
  if (!file) return {};
  const ssize_t n = pread(file.get(), into.data(), into.size(), static_cast<off_t>(offset));
  if (n != static_cast<ssize_t>(into.size())) return errno_error("read a file's content");
  return {};
}

Result<ThreadState> capture_body_thread(Body& body, const BodyThread& thread, ForeignRange vdso) {
  DROVER_TRY(ThreadState state, capture_thread(thread.thread, body.memory, vdso));
  DROVER_TRY(Injection injection, Injection::trapping(thread.thread, body.scratch));
  DROVER_CHECK(read_alternate_stack(injection, body.memory, body.scratch, state));
  DROVER_CHECK(injection.end());
  state.tid = thread.home_tid;
  state.mask_at_home = thread.declared_mask;
  state.blocked_by_handlers = thread.blocked_by_handlers;
  state.clear_child_tid = thread.clear_child_tid;
  state.cpu = body.cpu.thread(body, thread.home_tid);
  state.schedule = thread.schedule;
  return state;
}

Result<std::uint64_t> send_origin(SecureChannel& channel, const HostedImage& hosted,
                                  const SignOfLife& alive) {
  DROVER_CHECK(channel.send(type(FrameType::kIdentity), hosted.identity.encode()));
  const auto read = [&](std::uint32_t index, std::uint64_t offset, std::span<std::byte> into) {
    return read_content(hosted.contents.files[index], offset, into);
  };
  return send_contents(channel, 0, hosted.contents.all, read, alive);
}

}  // namespace

Result<std::uint64_t> send_body_image(SecureChannel& channel, Body& body, const HostedImage& hosted,
                                      const SignalsOfThreads& undelivered, bool with_contents,
                                      const SignOfLife& alive) {
  DROVER_TRY(auto all, read_memory_areas(body.pid));
  DROVER_TRY(const ForeignRange vdso, find_vdso(all));
  ProcessState state;
  for (const BodyThread& thread : body.threads) {
    DROVER_TRY(ThreadState captured, capture_body_thread(body, thread, vdso));
    if (const auto told = undelivered.find(thread.home_tid); told != undelivered.end()) {
      captured.undelivered = told->second;
    }
    state.threads.push_back(std::move(captured));
  }
  Layout layout =
      layout_of_body(without(std::move(all), body.scratch.range()), hosted, body.scratch);
  {
    DROVER_TRY(Injection injection, Injection::trapping(body.leader().thread, body.scratch));
    DROVER_TRY(layout.brk, injection.call("brk", SYS_brk));
    DROVER_TRY(state.coarse_ns,
               read_clock(injection, body.memory, body.scratch, CLOCK_MONOTONIC_COARSE));
    DROVER_TRY(state.monotonic_ns,
               read_clock(injection, body.memory, body.scratch, CLOCK_MONOTONIC));
    DROVER_TRY(state.boottime_ns, read_clock(injection, body.memory, body.scratch, CLOCK_BOOTTIME));
    DROVER_CHECK(injection.end());
  }
  state.memory = hosted.memory;
  state.memory.brk = layout.brk;
  state.auxiliary_vector = hosted.auxiliary_vector;
  state.personality = hosted.personality;
  state.extended_permission = hosted.extended_permission;
  state.membarrier = hosted.membarrier;
  state.actions = body.actions;
  if (body.counts_cpu) state.cpu = body.cpu.process(body);
  state.cpu_was_told = body.cpu_was_told;
  state.limits = body.limits;

  std::uint64_t sent = 0;
  if (with_contents) {
    DROVER_CHECK(check_carries(channel.protocol(), state));
    DROVER_TRY(sent, send_origin(channel, hosted, alive));
  }
  DROVER_CHECK(channel.send(type(FrameType::kLayout), layout.encode()));
  DROVER_TRY(const std::uint64_t pages,
             send_pages(channel, body.memory, *body.pages, layout.areas, {}, alive));
  DROVER_CHECK(channel.send(type(FrameType::kState), state.encode(channel.protocol())));
  DROVER_CHECK(channel.send(type(FrameType::kImageEnd), {}));
  return sent + pages;
}

}  // namespace drover
