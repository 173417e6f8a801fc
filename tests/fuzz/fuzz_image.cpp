// What a guest or a deputy does with the image of a process that its peer has made up. The first
// byte chooses the message, the second whether the rest is the message itself, or says where a good
// one is changed, and cut: two bytes of place and one of what is put there.
#include <algorithm>
#include <cstdlib>

#include "common/process/scratch.h"
#include "migrate/content_transfer.h"
#include "migrate/image.h"

using namespace drover;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

constexpr ForeignRange pages(std::uint64_t first, std::uint64_t count) {
  return {ForeignAddress(first * kPageSize), ForeignAddress((first + count) * kPageSize)};
}

Identity good_identity() {
  Identity identity;
  identity.job = "n1-1";
  identity.home_node = "n1";
  identity.host_name = "host";
  identity.domain_name = "(none)";
  identity.pid = 4711;
  identity.possible_cpus = 2;
  return identity;
}

ContentOffer good_offer() {
  Content content;
  content.size = content.mapped_size = 3 * kPageSize;
  content.path = "/lib/x.so";
  return {0, {content, content}};
}

Layout good_layout() {
  Layout layout;
  layout.scratch = {ForeignAddress(1ULL << 40),
                    ForeignAddress((1ULL << 40) + Scratch::size_for(1))};
  layout.brk = 64 * kPageSize;
  layout.areas = {{pages(16, 4), 5, AreaKind::kContent, 0, 1, kPageSize},
                  {pages(20, 1), 3, AreaKind::kAnonymous, Area::kLocked, 0, 0},
                  {pages(90, 9), 3, AreaKind::kStack, 0, 0, 0}};
  layout.specials = {{pages(40, 2), "[vdso]"}, {pages(42, 4), "[vvar]"}};
  return layout;
}

ProcessState good_state() {
  ProcessState state;
  state.auxiliary_vector.resize(320);
  ThreadState thread;
  thread.tid = 4711;
  thread.name = "program";
  thread.extended_state.resize(64);
  siginfo_t info{};
  info.si_signo = SIGUSR1;
  thread.undelivered = {info};
  state.threads = {thread, thread};
  state.threads[1].tid = 4712;
  state.cpu = CpuAccount{{900, 700, 200}, {690, 210}};
  return state;
}

/// What is read is written again the same.
template <class Message>
void round_trip(ByteView bytes) {
  const auto message = Message::decode(bytes);
  if (message) require(std::ranges::equal(message->encode(), bytes));
}

void check_layout(ByteView bytes) {
  round_trip<Layout>(bytes);
  const auto layout = Layout::decode(bytes);
  if (!layout) return;
  ForeignAddress end;
  for (const Area& area : layout->areas) {
    require(end <= area.range.start && area.range.start < area.range.end);
    require(!area.range.overlaps(layout->scratch) && area.protection <= 7);
    for (const SpecialArea& s : layout->specials) require(!area.range.overlaps(s.range));
    end = area.range.end;
  }
}

void check_state(ByteView bytes, std::uint32_t protocol) {
  const auto state = ProcessState::decode(bytes, protocol);
  if (!state) return;
  require(!state->cpu || is_possible(*state->cpu));
  require(!state->threads.empty() && state->monotonic_ns >= 0);
  for (const ThreadState& thread : state->threads) {
    require(is_possible(thread.cpu));
    for (const siginfo_t& info : thread.undelivered) require(is_signal(info.si_signo));
  }
  // The kernel's structures have holes, whose bytes need not be kept.
  require(state->encode(protocol).size() == bytes.size());
}

void check_want(ByteView bytes) {
  round_trip<ContentWant>(bytes);
  if (const auto want = ContentWant::decode(bytes)) {
    require(std::ranges::is_sorted(want->indices) && want->indices.size() <= kMaxContents);
  }
}

void check_piece(ByteView bytes) {
  static const std::vector<Content> contents = good_offer().contents;
  const auto piece = parse_content_piece(contents, bytes);
  if (!piece) return;
  require(piece->index < contents.size());
  require(piece->offset + piece->data.size() <= contents[piece->index].size);
}

void change(Bytes& message, ByteView how) {
  for (; how.size() >= 3; how = how.subspan(3)) {
    const std::size_t at =
        std::to_integer<std::size_t>(how[0]) << 8 | std::to_integer<std::size_t>(how[1]);
    if (at < message.size()) {
      message[at] = how[2];
    } else if (at % 256 < message.size()) {
      message.resize(message.size() - at % 256);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ContentPiece piece{1, 0, 4096};
  static const Bytes good[] = {good_identity().encode(),
                               good_offer().encode(),
                               ContentWant{{0, 1, 7}}.encode(),
                               encode_record(piece),
                               good_layout().encode(),
                               good_state().encode(),
                               HopOrder{"10.0.0.1:7000", {}, {}, 3}.encode(),
                               encode_record(ClockReading{1, 1}),
                               good_state().encode(1)};
  if (size < 2) return 0;
  ByteView bytes(reinterpret_cast<const std::byte*>(data) + 2, size - 2);
  const std::size_t which = data[0] % std::size(good);
  Bytes changed;
  if (data[1] % 2 != 0) {
    changed = good[which];
    change(changed, bytes);
    bytes = changed;
  }
  switch (which) {
    case 0:
      round_trip<Identity>(bytes);
      break;
    case 1:
      round_trip<ContentOffer>(bytes);
      break;
    case 2:
      check_want(bytes);
      break;
    case 3:
      check_piece(bytes);
      break;
    case 4:
      check_layout(bytes);
      break;
    case 5:
      check_state(bytes, 2);
      break;
    case 6:
      round_trip<HopOrder>(bytes);
      break;
    case 7:
      if (const auto clock = ClockReading::decode(bytes)) require(clock->monotonic_ns >= 0);
      break;
    case 8:
      check_state(bytes, 1);
      break;
  }
  return 0;
}
