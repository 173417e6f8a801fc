// The messages that make up the image of a process: what is written is read again, and what a
// peer has made up is refused in words.
#include "migrate/image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "common/process/scratch.h"
#include "migrate/content_transfer.h"
#include "migrate/page_stream.h"

namespace drover {
namespace {

constexpr std::uint64_t kUserEnd = 1ULL << 56;

constexpr ForeignRange pages(std::uint64_t first, std::uint64_t count) {
  return {ForeignAddress(first * kPageSize), ForeignAddress((first + count) * kPageSize)};
}

Identity some_identity() {
  Identity identity;
  identity.job = "n1-17";
  identity.home_node = "n1";
  identity.host_name = "host";
  identity.domain_name = "(none)";
  identity.pid = 4711;
  identity.uid = 1000;
  identity.gid = 100;
  identity.possible_cpus = 4;
  identity.vdso_digest.fill(std::byte{7});
  return identity;
}

Content some_content() {
  Content content;
  content.key.fill(std::byte{9});
  content.size = 2 * kPageSize;
  content.device = 0x801;
  content.inode = 123;
  content.file_offset = 4 * kPageSize;
  content.mapped_size = 3 * kPageSize;
  content.is_public = 1;
  content.path = "/lib/x.so";
  return content;
}

Layout some_layout() {
  Layout layout;
  layout.scratch = {ForeignAddress(1ULL << 40),
                    ForeignAddress((1ULL << 40) + Scratch::size_for(1))};
  layout.brk = 30 * kPageSize;
  layout.areas = {
      {pages(16, 4), PROT_READ | PROT_EXEC, AreaKind::kContent, Area::kWasShared, 1, kPageSize},
      {pages(20, 1), PROT_READ | PROT_WRITE, AreaKind::kAnonymous, Area::kLocked, 0, 0},
      {pages(90, 9), PROT_READ | PROT_WRITE, AreaKind::kStack, 0, 0, 0}};
  layout.specials = {{pages(42, 2), "[vdso]"}, {pages(40, 2), "[vvar]"}};
  return layout;
}

ProcessState some_state() {
  ProcessState state;
  state.memory.start_code = 0x400000;
  state.auxiliary_vector = Bytes(320, std::byte{3});
  state.personality = 0x40000;
  state.actions[SIGUSR1 - 1] = {0x401000, 0x04000000, 0x402000, 0};
  ThreadState thread;
  thread.tid = 4711;
  thread.registers.rip = 0x400123;
  thread.mask = signal_bit(SIGINT);
  thread.blocked_by_handlers = signal_bit(SIGINT);
  thread.name = "program";
  thread.extended_state = Bytes(832, std::byte{5});
  siginfo_t info{};
  info.si_signo = SIGUSR1;
  thread.undelivered = {info, info};
  state.threads = {thread, thread};
  state.threads[1].tid = 4712;
  state.monotonic_ns = 5'000'000'000;
  state.boottime_ns = 6'000'000'000;
  state.cpu = CpuAccount{{900, 700, 200}, {690, 210}};
  state.cpu_was_told = true;
  state.threads[1].cpu = {{90, 70, 20}, {69, 21}};
  state.threads[1].schedule = Schedule{7, SCHED_BATCH, {3}};
  state.limits.emplace();
  state.limits->stack = {1 << 23, 1 << 24};
  return state;
}

/// The words with which a message is refused; "taken" if it is not.
template <class Message>
std::string words(const Message& message) {
  const auto read = Message::decode(message.encode());
  return read ? "taken" : read.error().message();
}

std::string words_of(const std::function<void(Layout&)>& change) {
  Layout layout = some_layout();
  change(layout);
  return words(layout);
}

std::string words_of(const std::function<void(Content&)>& change) {
  Content content = some_content();
  change(content);
  return words(ContentOffer{0, {content}});
}

std::string words_of(const std::function<void(ProcessState&)>& change) {
  ProcessState state = some_state();
  change(state);
  return words(state);
}

template <class Message>
class ImageMessage : public testing::Test {};

template <class Message>
Message sample();
template <>
Identity sample() {
  return some_identity();
}
template <>
ContentOffer sample() {
  return {3, {some_content(), some_content()}};
}
template <>
ContentWant sample() {
  return {{0, 3, 9}};
}
template <>
Layout sample() {
  return some_layout();
}
template <>
ProcessState sample() {
  return some_state();
}
template <>
HopOrder sample() {
  HopOrder order;
  order.address = "10.0.0.1:7000";
  order.ticket.fill(std::byte{1});
  order.key.fill(std::byte{2});
  order.epoch = 12;
  order.protocol_between = 2;
  return order;
}

using ImageMessages =
    testing::Types<Identity, ContentOffer, ContentWant, Layout, ProcessState, HopOrder>;
TYPED_TEST_SUITE(ImageMessage, ImageMessages);

TYPED_TEST(ImageMessage, IsReadAsItWasWritten) {
  const Bytes written = sample<TypeParam>().encode();
  const auto read = TypeParam::decode(written);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->encode(), written);
}

TYPED_TEST(ImageMessage, CutShortAnywhereIsRefused) {
  const Bytes written = sample<TypeParam>().encode();
  for (std::size_t size = 0; size < written.size(); ++size) {
    // Of a size of its own, so that a sanitizer sees what is read behind its end.
    const Bytes cut(written.begin(), written.begin() + static_cast<std::ptrdiff_t>(size));
    const auto read = TypeParam::decode(cut);
    ASSERT_FALSE(read.ok()) << size;
    ASSERT_NE(read.error().message(), "") << size;
  }
}

TYPED_TEST(ImageMessage, WithSomethingBehindItIsRefused) {
  Bytes written = sample<TypeParam>().encode();
  written.push_back(std::byte{0});
  EXPECT_FALSE(TypeParam::decode(written).ok());
}

TYPED_TEST(ImageMessage, WithAnyByteChangedIsReadOrRefused) {
  const Bytes written = sample<TypeParam>().encode();
  for (std::size_t at = 0; at < written.size(); ++at) {
    for (const unsigned value : {0x00U, 0x7fU, 0x80U, 0xffU}) {
      Bytes changed = written;
      changed[at] = static_cast<std::byte>(value);
      const auto read = TypeParam::decode(changed);
      if (read) {
        ASSERT_EQ(read->encode().size(), changed.size()) << at;
      }
    }
  }
}

TEST(ProcessStateMessage, IsNotSentWhereItWouldLeaveOutWhatTheProgramKnows) {
  ProcessState state = some_state();
  EXPECT_TRUE(check_carries(2, state));
  const Status carries = check_carries(1, state);
  ASSERT_FALSE(carries);
  EXPECT_EQ(carries.error().message(),
            "version 1 of the protocol, which is spoken on the way, cannot carry the CPU time that "
            "the program has been told of");
  state.cpu_was_told = false;
  EXPECT_TRUE(check_carries(1, state));
}

TEST(HopOrderMessage, OfTheFirstVersionIsOfAHopByThatVersion) {
  const HopOrder order = sample<HopOrder>();
  const Bytes first = order.encode(1);
  EXPECT_EQ(first.size(), order.encode(2).size() - sizeof order.protocol_between);
  const auto read = HopOrder::decode(first, 1);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->protocol_between, 1u);
  EXPECT_EQ(read->epoch, order.epoch);
  EXPECT_FALSE(HopOrder::decode(first, 2).ok());
  EXPECT_FALSE(HopOrder::decode(order.encode(2), 1).ok());
}

TEST(IdentityMessage, NamesAPidThatCanBe) {
  for (const std::int32_t pid : {-1, 0, 1, 4'194'305, INT32_MAX}) {
    Identity identity = some_identity();
    identity.pid = pid;
    EXPECT_EQ(words(identity), "identity: no such pid can be made") << pid;
  }
}

TEST(IdentityMessage, NamesAreShort) {
  Identity identity = some_identity();
  identity.host_name = std::string(65, 'x');
  EXPECT_EQ(words(identity), "identity: truncated or malformed message");
}

TEST(ContentOfferMessage, OffersNoMoreThanIsMapped) {
  EXPECT_EQ(words_of([](Content& c) { c.size = c.mapped_size + 1; }),
            "content offer: larger than its mapping");
  EXPECT_EQ(words_of([](Content& c) { c.size = c.mapped_size = UINT64_MAX; }),
            "content offer: an impossible mapping");
  EXPECT_EQ(words_of([](Content& c) { c.mapped_size = kUserEnd + kPageSize; }),
            "content offer: an impossible mapping");
  EXPECT_EQ(words_of([](Content& c) { c.file_offset = INT64_MAX / kPageSize * kPageSize; }),
            "content offer: an impossible mapping");
  EXPECT_EQ(words_of([](Content& c) { c.file_offset = 1; }),
            "content offer: an impossible mapping");
}

TEST(ContentOfferMessage, IsNoLongerThanAllContentsMayBe) {
  EXPECT_EQ(words(ContentOffer{kMaxContents - 1, {some_content()}}), "taken");
  EXPECT_EQ(words(ContentOffer{kMaxContents, {some_content()}}), "content offer: too many");
  EXPECT_EQ(words(ContentOffer{UINT32_MAX, {some_content()}}), "content offer: too many");
}

TEST(ContentWantMessage, WantsEachContentOnce) {
  EXPECT_EQ(words(ContentWant{{1, 1}}), "content want: not in order");
  EXPECT_EQ(words(ContentWant{{2, 1}}), "content want: not in order");
  EXPECT_EQ(words(ContentWant{}), "taken");
}

TEST(ContentWantMessage, WantsNoMoreThanCanBeOffered) {
  ContentWant want;
  for (std::uint32_t i = 0; i <= kMaxContents; ++i) want.indices.push_back(i);
  EXPECT_EQ(words(want), "content want: too many");
}

TEST(AnyCount, ThatCannotFollowIsRefusedBeforeRoomIsMade) {
  WireWriter want;
  want.number(UINT32_MAX);
  EXPECT_FALSE(ContentWant::decode(want.data()).ok());
  WireWriter offer;
  offer.number(std::uint32_t{0});
  offer.number(UINT32_MAX);
  EXPECT_FALSE(ContentOffer::decode(offer.data()).ok());
}

std::string piece_words(const ContentPiece& head, std::size_t size) {
  WireWriter w;
  w.record(head);
  w.raw(Bytes(size));
  const auto piece = parse_content_piece({some_content(), some_content()}, w.data());
  if (!piece) return piece.error().message();
  EXPECT_EQ(piece->index, head.index);
  EXPECT_EQ(piece->offset, head.offset);
  EXPECT_EQ(piece->data.size(), size);
  return "taken";
}

TEST(ContentPieceMessage, LiesInsideItsContent) {
  const std::uint64_t size = some_content().size;
  EXPECT_EQ(piece_words({1, 0, 0}, size), "taken");
  EXPECT_EQ(piece_words({1, 0, size - 1}, 1), "taken");
  EXPECT_EQ(piece_words({1, 0, size}, 0), "taken");
  EXPECT_EQ(piece_words({2, 0, 0}, 1), "content: malformed message");
  EXPECT_EQ(piece_words({1, 0, size}, 1), "content: malformed message");
  EXPECT_EQ(piece_words({1, 0, size + 1}, 0), "content: malformed message");
  EXPECT_EQ(piece_words({1, 0, UINT64_MAX}, 2), "content: malformed message");
  EXPECT_EQ(piece_words({1, 1, 0}, 1), "content: malformed message");
  EXPECT_FALSE(parse_content_piece({some_content()}, Bytes(sizeof(ContentPiece) - 1)).ok());
}

TEST(ClockReadingMessage, TellsATimeThatCanBe) {
  EXPECT_TRUE(ClockReading::decode(encode_record(ClockReading{0, 1})).ok());
  for (const std::int64_t ns : {std::int64_t{-1}, INT64_MIN, INT64_MAX}) {
    EXPECT_FALSE(ClockReading::decode(encode_record(ClockReading{ns, 0})).ok()) << ns;
    EXPECT_FALSE(ClockReading::decode(encode_record(ClockReading{0, ns})).ok()) << ns;
  }
}

TEST(LayoutMessage, AreasAreWholePagesOfUserMemory) {
  const auto with = [](std::uint64_t start, std::uint64_t end) {
    return words_of([=](Layout& l) {
      l.areas[2].range = {ForeignAddress(start), ForeignAddress(end)};
    });
  };
  EXPECT_EQ(with(kUserEnd - kPageSize, kUserEnd), "taken");
  EXPECT_EQ(with(kUserEnd, kUserEnd + kPageSize), "layout: an impossible area");
  EXPECT_EQ(with(kUserEnd, 0), "layout: an impossible area");
  EXPECT_EQ(with(kUserEnd - kPageSize, kUserEnd - kPageSize), "layout: an impossible area");
  EXPECT_EQ(with(kUserEnd - kPageSize, kUserEnd - 1), "layout: an impossible area");
  EXPECT_EQ(with(UINT64_MAX - kPageSize + 1, UINT64_MAX), "layout: an impossible area");
}

TEST(LayoutMessage, AreasAreInOrderAndApart) {
  EXPECT_EQ(words_of([](Layout& l) { std::swap(l.areas[0], l.areas[1]); }),
            "layout: areas lie over each other");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].range = pages(19, 2); }),
            "layout: areas lie over each other");
  EXPECT_EQ(words_of([](Layout& l) { l.specials[0].range = pages(19, 2); }),
            "layout: areas lie over each other");
  EXPECT_EQ(words_of([](Layout& l) { l.specials[0].range = pages(15, 100); }),
            "layout: areas lie over each other");
  EXPECT_EQ(words_of([](Layout& l) { l.specials[0].range = l.specials[1].range; }),
            "layout: areas lie over each other");
}

TEST(LayoutMessage, NothingLiesOverTheScratch) {
  EXPECT_EQ(words_of([](Layout& l) { l.areas[2].range.end = l.scratch.end; }),
            "layout: an area over the scratch");
  EXPECT_EQ(words_of([](Layout& l) { l.specials[0].range = l.scratch; }),
            "layout: areas lie over each other");
}

TEST(LayoutMessage, TheScratchIsOfItsSize) {
  EXPECT_EQ(words_of([](Layout& l) { l.scratch.end = l.scratch.end + kPageSize; }),
            "layout: an impossible scratch");
  EXPECT_EQ(words_of([](Layout& l) { l.scratch = pages(1 << 20, 1); }),
            "layout: an impossible scratch");
  EXPECT_EQ(words_of([](Layout& l) { l.scratch = {}; }), "layout: an impossible scratch");
}

TEST(LayoutMessage, HasNoBitsThatAreNotKnown) {
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].protection = PROT_GROWSDOWN | PROT_READ; }),
            "layout: an unknown protection");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].protection = 8; }),
            "layout: an unknown protection");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].flags = Area::kAllFlags; }), "taken");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].flags = Area::kAllFlags + 1; }),
            "layout: an unknown flag");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].kind = AreaKind{3}; }),
            "layout: an unknown kind of area");
}

TEST(LayoutMessage, ContentIsWhereAFileCanBe) {
  EXPECT_EQ(words_of([](Layout& l) { l.areas[0].content_offset = 1; }),
            "layout: an impossible content");
  EXPECT_EQ(
      words_of([](Layout& l) { l.areas[0].content_offset = INT64_MAX / kPageSize * kPageSize; }),
      "layout: an impossible content");
  EXPECT_EQ(words_of([](Layout& l) { l.areas[1].content_offset = kPageSize; }),
            "layout: an impossible content");
}

TEST(LayoutMessage, TheKernelMakesAHandfulOfMappings) {
  EXPECT_EQ(words_of([](Layout& l) {
              for (std::uint64_t i = 0; i < kMaxSpecials; ++i)
                l.specials.push_back({pages(1000 + i, 1), "[vdso]"});
            }),
            "layout: too many areas");
}

TEST(ProcessStateMessage, HasAThread) {
  EXPECT_EQ(words_of([](ProcessState& s) { s.threads.clear(); }), "process state: no thread");
}

TEST(ProcessStateMessage, HasEachThreadOnce) {
  EXPECT_EQ(words_of([](ProcessState& s) { s.threads[1].tid = s.threads[0].tid; }),
            "process state: a thread twice");
  for (const int tid : {-1, 0, 1, 5'000'000}) {
    EXPECT_EQ(words_of([&](ProcessState& s) { s.threads[1].tid = tid; }),
              "process state: no such tid can be made");
  }
}

// A process that leaves with the most threads may make others away, and comes home with all.
TEST(ProcessStateMessage, HasThoseMadeAwayBesidesTheMostThatLeave) {
  const auto with_threads = [](std::size_t count) {
    return words_of([&](ProcessState& s) {
      s.threads.resize(count, s.threads[0]);
      for (std::size_t i = 0; i < count; ++i) s.threads[i].tid = 1000 + static_cast<int>(i);
    });
  };
  EXPECT_EQ(with_threads(kMaxThreads + kSpareThreads), "taken");
  EXPECT_EQ(with_threads(kMaxThreads + kSpareThreads + 1), "process state: too many threads");
}

TEST(ProcessStateMessage, SignalsAreOnesThatThereAre) {
  for (const int number : {0, -1, 65, INT32_MIN, INT32_MAX}) {
    EXPECT_EQ(words_of([&](ProcessState& s) { s.threads[1].undelivered[1].si_signo = number; }),
              "process state: no such signal");
  }
}

TEST(ProcessStateMessage, TimesAreOnesThatThereAre) {
  EXPECT_EQ(words_of([](ProcessState& s) { s.coarse_ns = s.monotonic_ns + 1; }),
            words_of([](ProcessState& s) { s.monotonic_ns = -1; }));
  EXPECT_EQ(words_of([](ProcessState& s) { s.monotonic_ns = -1; }),
            "process state: an impossible time");
  EXPECT_EQ(words_of([](ProcessState& s) { s.boottime_ns = INT64_MAX; }),
            "process state: an impossible time");
}

TEST(ProcessStateMessage, TellsOfCpuTimeAndLimitsFromProtocol2On) {
  const ProcessState state = some_state();
  const auto read = ProcessState::decode(state.encode());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->cpu, state.cpu);
  EXPECT_EQ(read->threads[1].cpu, state.threads[1].cpu);
  const auto old = ProcessState::decode(state.encode(1), 1);
  ASSERT_TRUE(old.ok());
  EXPECT_EQ(read->limits, state.limits);
  EXPECT_EQ(old->cpu, std::nullopt) << "not known";
  EXPECT_EQ(old->limits, std::nullopt);
  EXPECT_EQ(old->threads[1].cpu, CpuAccount{});
  EXPECT_FALSE(ProcessState::decode(state.encode(1), 2).ok());
  EXPECT_FALSE(ProcessState::decode(state.encode(2), 1).ok());
  ProcessState unknown = state;
  unknown.cpu.reset();
  unknown.limits.reset();
  EXPECT_EQ(ProcessState::decode(unknown.encode())->cpu, std::nullopt);
  EXPECT_EQ(ProcessState::decode(unknown.encode())->limits, std::nullopt);
}

TEST(ProcessStateMessage, CpuTimesAreOnesThatThereAre) {
  EXPECT_EQ(words_of([](ProcessState& s) { s.cpu->used.user = UINT64_MAX; }),
            "process state: an impossible CPU time");
  EXPECT_EQ(words_of([](ProcessState& s) { s.threads[1].cpu.shown.system = 1ULL << 62; }),
            "process state: an impossible CPU time");
}

TEST(ProcessStateMessage, PartsAreNoLargerThanTheyCanBe) {
  EXPECT_NE(words_of([](ProcessState& s) { s.auxiliary_vector.resize(4097); }), "taken");
  EXPECT_NE(words_of([](ProcessState& s) { s.threads[0].extended_state.resize(64 * 1024 + 1); }),
            "taken");
  EXPECT_NE(words_of([](ProcessState& s) { s.threads[0].name = std::string(65, 'x'); }), "taken");
}

TEST(SignalMessages, NameSignalsThatThereAre) {
  for (const int number : {1, 64}) {
    SignalMessage signal;
    FatalMessage fatal;
    signal.info.si_signo = fatal.info.si_signo = number;
    EXPECT_TRUE(SignalMessage::decode(encode_record(signal)).ok()) << number;
    EXPECT_TRUE(FatalMessage::decode(encode_record(fatal)).ok()) << number;
    EXPECT_TRUE(ActionMessage::decode(encode_record(ActionMessage{number, 0, {}})).ok()) << number;
  }
  for (const int number : {0, -1, 65, INT32_MIN, INT32_MAX}) {
    SignalMessage signal;
    FatalMessage fatal;
    signal.info.si_signo = fatal.info.si_signo = number;
    EXPECT_FALSE(SignalMessage::decode(encode_record(signal)).ok()) << number;
    EXPECT_FALSE(FatalMessage::decode(encode_record(fatal)).ok()) << number;
    EXPECT_FALSE(ActionMessage::decode(encode_record(ActionMessage{number, 0, {}})).ok()) << number;
  }
}

TEST(OutcomeMessage, EndsInAWayThatThereIs) {
  for (unsigned end = 0; end < 256; ++end) {
    WireWriter w;
    OutcomeHead{7, 1, static_cast<CallEnd>(end)}.encode(w);
    WireReader r(w.data());
    const auto head = OutcomeHead::decode(r);
    EXPECT_EQ(head.ok(), static_cast<CallEnd>(end) <= CallEnd::kGoHome) << end;
    if (head) {
      EXPECT_EQ(head->sequence, 1U);
    }
  }
  WireReader nothing{ByteView{}};
  EXPECT_FALSE(OutcomeHead::decode(nothing).ok());
}

/// Eight pages of ours that play a process's memory; the third and the fourth are an area, and so
/// is the sixth.
class PagesMessage : public testing::Test {
 protected:
  void SetUp() override {
    void* const at =
        mmap(nullptr, 8 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    at_ = static_cast<std::byte*>(at);
    for (const auto& [first, count] : {std::pair{2, 2}, std::pair{5, 1}}) {
      Area area;
      area.range = {address(first), address(first + count)};
      areas_.push_back(area);
    }
  }
  void TearDown() override { munmap(at_, 8 * kPageSize); }

  ForeignAddress address(int page) const {
    return ForeignAddress(reinterpret_cast<std::uint64_t>(at_)) +
           static_cast<std::uint64_t>(page) * kPageSize;
  }
  std::string receive(std::uint64_t where, std::size_t size) const {
    WireWriter w;
    w.record(PagesHead{where});
    w.raw(Bytes(size, std::byte{1}));
    const auto n = receive_pages(ForeignMemory(getpid(), OwnedFd{}), areas_, w.data());
    if (!n) return n.error().message();
    EXPECT_EQ(*n, size);
    return "taken";
  }
  bool untouched(int page) const {
    return std::all_of(at_ + page * kPageSize, at_ + (page + 1) * kPageSize,
                       [](std::byte b) { return b == std::byte{0}; });
  }

  std::byte* at_ = nullptr;
  std::vector<Area> areas_;
};

TEST_F(PagesMessage, GoWhereAreasAre) {
  EXPECT_EQ(receive(address(2).value(), 2 * kPageSize), "taken");
  EXPECT_EQ(receive(address(5).value(), kPageSize), "taken");
  for (int page = 0; page < 8; ++page) {
    EXPECT_EQ(untouched(page), page != 2 && page != 3 && page != 5) << page;
  }
}

TEST_F(PagesMessage, GoNowhereElse) {
  const auto outside = "pages: outside of the process's memory";
  EXPECT_EQ(receive(address(1).value(), kPageSize), outside);
  EXPECT_EQ(receive(address(1).value(), 2 * kPageSize), outside);
  EXPECT_EQ(receive(address(3).value(), 2 * kPageSize), outside);
  EXPECT_EQ(receive(address(3).value(), 3 * kPageSize), outside);
  EXPECT_EQ(receive(address(6).value(), kPageSize), outside);
  EXPECT_EQ(receive(0, kPageSize), outside);
  for (int page = 0; page < 8; ++page) EXPECT_TRUE(untouched(page)) << page;
}

TEST_F(PagesMessage, AreWholePages) {
  const auto malformed = "pages: malformed message";
  EXPECT_EQ(receive(address(2).value(), 0), malformed);
  EXPECT_EQ(receive(address(2).value(), 1), malformed);
  EXPECT_EQ(receive(address(2).value(), kPageSize + 1), malformed);
  EXPECT_EQ(receive(address(2).value() + 1, kPageSize), malformed);
  EXPECT_EQ(receive(UINT64_MAX - kPageSize + 1, kPageSize), malformed);
  EXPECT_FALSE(receive_pages(ForeignMemory(getpid(), OwnedFd{}), areas_, Bytes(7)).ok());
}

}  // namespace
}  // namespace drover
