#include "migrate/hollow_process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

constexpr int kRealtime = 40;
constexpr int kOther = 54321;  // a user without processes: limits count per user

/// What the child has got of a signal, in order.
struct Seen {
  std::array<int, 16> values;
  int count;
};
Seen* seen = nullptr;

void note(int, siginfo_t* info, void*) {
  seen->values[static_cast<std::size_t>(seen->count++)] = info->si_value.sival_int;
}

siginfo_t queued(int signal, int value) {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_value.sival_int = value;
  return info;
}

/// As if these had been told to its only thread, and not been delivered there.
ProcessState with_signals(ProcessState state, const std::vector<siginfo_t>& signals) {
  state.threads.front().undelivered = signals;
  return state;
}

/// A child that counts signals until a SIGTERM; it is held as if it were away, and its image is
/// what it was when it was stopped.
class AwayChild {
 public:
  explicit AwayChild(rlim_t most_signals = RLIM_INFINITY) {
    seen = static_cast<Seen*>(
        mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    *seen = {};
    child_ = std::make_unique<TracedChild>([most_signals] { return count(most_signals); });
    child_->await_sleep();
    child_->seize();
    child_->interrupt();
  }
  ~AwayChild() { munmap(seen, sizeof(Seen)); }

  Status hold() {
    DROVER_TRY(const auto areas, read_memory_areas(child_->pid()));
    DROVER_TRY(const ForeignRange vdso, find_vdso(areas));
    DROVER_TRY(ThreadState thread, capture_thread(child_->thread(), child_->memory(), vdso));
    DROVER_TRY(scratch_, child_->make_scratch());
    DROVER_TRY(Injection injection, Injection::trapping(child_->thread(), scratch_));
    DROVER_TRY(state_, capture_process(child_->pid(), injection, child_->memory(), scratch_));
    DROVER_CHECK(complete_thread(injection, child_->memory(), scratch_, thread));
    DROVER_CHECK(clear_registrations(injection, child_->memory(), thread));
    DROVER_CHECK(injection.end());
    threads_.emplace_back(child_->thread(), child_->memory(), scratch_, thread.registers);
    state_.threads.push_back(std::move(thread));
    return {};
  }

  TracedChild& child() { return *child_; }
  const HollowThread& thread() const { return threads_.front(); }
  const ProcessState& state() const { return state_; }
  HomeContents& contents() { return contents_; }
  /// What it has mapped besides what is ours.
  std::vector<MemoryArea> areas() const {
    auto all = read_memory_areas(child_->pid());
    EXPECT_TRUE(all);
    return without(*std::move(all), scratch_.range());
  }
  /// The areas in a part of it.
  std::vector<MemoryArea> areas(ForeignRange part) const {
    auto all = areas();
    std::erase_if(all, [&](const MemoryArea& a) { return !a.range.overlaps(part); });
    return all;
  }
  Result<Layout> layout() {
    auto all = areas();
    DROVER_TRY(auto layout, layout_of(all, contents_, scratch_));
    DROVER_TRY(layout.brk, call(SYS_brk, {}));
    return layout;
  }
  Result<std::uint64_t> call(long number, std::array<std::uint64_t, 6> arguments) {
    DROVER_TRY(Injection injection, Injection::trapping(child_->thread(), scratch_));
    DROVER_TRY(const std::uint64_t result, injection.call("call", number, arguments));
    DROVER_CHECK(injection.end());
    return result;
  }
  Result<PageMap> pages() const {
    const std::string path = "/proc/" + std::to_string(child_->pid()) + "/pagemap";
    return PageMap::over(OwnedFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  }
  HomeRebuild rebuild() const { return {threads_, child_->memory(), contents_, {}}; }

  /// What it has seen when it ends.
  std::vector<int> end() {
    kill(child_->pid(), SIGTERM);
    EXPECT_EQ(child_->end(), 0);
    return {seen->values.begin(), seen->values.begin() + seen->count};
  }

 private:
  static int count(rlim_t most_signals) {
    if (most_signals != RLIM_INFINITY) {
      const rlimit limit{most_signals, most_signals};
      if (setresuid(kOther, kOther, kOther) != 0) return 1;
      if (setrlimit(RLIMIT_SIGPENDING, &limit) != 0) return 2;
    }
    struct sigaction action {};
    action.sa_sigaction = note;
    action.sa_flags = SA_SIGINFO;
    sigfillset(&action.sa_mask);  // one after the other
    sigaction(SIGUSR1, &action, nullptr);
    sigaction(kRealtime, &action, nullptr);
    signal(SIGTERM, [](int) { _exit(0); });
    for (;;) pause();
  }

  std::unique_ptr<TracedChild> child_;
  Scratch scratch_;
  ProcessState state_;
  HomeContents contents_;
  std::list<HollowThread> threads_;
};

/// A file of four different pages that has no name.
class NamelessFile {
 public:
  NamelessFile() : fd_(open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    for (char c = 'a'; c < 'e'; ++c) {
      const std::string page(kPageSize, c);
      EXPECT_EQ(write(fd_.get(), page.data(), page.size()), static_cast<ssize_t>(page.size()));
    }
  }
  int fd() const { return fd_.get(); }

 private:
  OwnedFd fd_;
};

constexpr std::uint64_t kPlace = 1ULL << 33;
constexpr ForeignRange pages_at_place(std::uint64_t from, std::uint64_t to) {
  return {ForeignAddress(kPlace + from * kPageSize), ForeignAddress(kPlace + to * kPageSize)};
}

}  // namespace

// Two file mappings at home, and one away.
TEST(HomeRebuild, AFileMappingIsKeptAlsoIfItsPartsHaveBecomeOne) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  const NamelessFile file;
  AwayChild away;
  ASSERT_TRUE(away.hold());
  ASSERT_TRUE(away.call(SYS_mmap, {kPlace, 4 * kPageSize, PROT_READ, MAP_PRIVATE | MAP_FIXED,
                                   static_cast<std::uint64_t>(file.fd()), 0}));
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  for (const std::uint64_t page : {1, 2}) {
    ASSERT_TRUE(away.call(SYS_mprotect, {kPlace + page * kPageSize, kPageSize,
                                         page == 1 ? std::uint64_t{PROT_NONE} : PROT_EXEC}));
  }
  ASSERT_EQ(away.areas(pages_at_place(0, 4)).size(), 4U);
  const Status laid_out = away.rebuild().lay_out(*layout);
  ASSERT_TRUE(laid_out) << laid_out.error().message();
  const auto areas = away.areas(pages_at_place(0, 4));
  ASSERT_EQ(areas.size(), 1U);
  EXPECT_EQ(areas[0].range, pages_at_place(0, 4));
  EXPECT_EQ(areas[0].protection, PROT_READ);
  for (std::uint64_t page = 0; page < 4; ++page) {
    const auto byte =
        away.child().memory().read_record<char>(ForeignAddress(kPlace + page * kPageSize + 7));
    ASSERT_TRUE(byte);
    EXPECT_EQ(*byte, static_cast<char>('a' + page));
  }
}

TEST(HomeRebuild, AMappingOfAnotherKindIsMadeAnew) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  constexpr std::uint64_t kMapDroppable = 0x08;
  AwayChild away;
  ASSERT_TRUE(away.hold());
  const std::uint64_t none = MAP_ANONYMOUS | MAP_FIXED;
  ASSERT_TRUE(away.call(SYS_mmap, {kPlace, 2 * kPageSize, PROT_READ | PROT_WRITE,
                                   none | MAP_PRIVATE | MAP_GROWSDOWN, ~0ULL, 0}));
  const bool droppable =
      away.call(SYS_mmap, {kPlace + 4 * kPageSize, kPageSize, PROT_READ | PROT_WRITE,
                           none | kMapDroppable, ~0ULL, 0})
          .ok();
  ASSERT_TRUE(away.call(SYS_mmap, {kPlace + 6 * kPageSize, kPageSize, PROT_READ | PROT_WRITE,
                                   none | MAP_PRIVATE, ~0ULL, 0}));
  ASSERT_TRUE(away.call(SYS_madvise, {kPlace + 6 * kPageSize, kPageSize, MADV_HUGEPAGE}));
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  for (Area& area : layout->areas) {
    if (!area.range.overlaps(pages_at_place(0, 7))) continue;
    area.kind = AreaKind::kAnonymous;
    area.flags = 0;
  }
  const Status laid_out = away.rebuild().lay_out(*layout);
  ASSERT_TRUE(laid_out) << laid_out.error().message();
  const auto areas = away.areas(pages_at_place(0, 7));
  ASSERT_EQ(areas.size(), droppable ? 3U : 2U);
  for (const MemoryArea& area : areas) {
    EXPECT_FALSE(area.flags.grows_down);
    EXPECT_EQ(area_flags(area), 0U);
  }
}

// The body's part of a file that it shares at home: what it holds is the file's again.
TEST(HomeRebuild, WhatTravelledAsACopyIsWrittenBackIntoTheFile) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  const std::string directory = "/tmp/hsperfdata_test" + std::to_string(getpid());
  const std::string path = directory + "/1";
  ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
  const OwnedFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 2 * kPageSize), 0);
  AwayChild away;
  ASSERT_TRUE(away.hold());
  ASSERT_TRUE(
      away.call(SYS_mmap, {kPlace, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                           static_cast<std::uint64_t>(file.get()), 0}));
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  const auto area = std::ranges::find(layout->areas, pages_at_place(0, 2), &Area::range);
  ASSERT_NE(area, layout->areas.end());
  EXPECT_EQ(area->kind, AreaKind::kAnonymous);
  EXPECT_EQ(area->flags, Area::kWasShared);
  const Status laid_out = away.rebuild().lay_out(*layout);
  ASSERT_TRUE(laid_out) << laid_out.error().message();
  ASSERT_TRUE(away.child().memory().write_record(ForeignAddress(kPlace + kPageSize), 4711));
  int in_file = 0;
  EXPECT_EQ(pread(file.get(), &in_file, sizeof in_file, kPageSize), sizeof in_file);
  EXPECT_EQ(in_file, 4711);
  unlink(path.c_str());
  rmdir(directory.c_str());
}

TEST(HomeRebuild, SendsNoSignalsBeforeNothingCanFailAnyMore) {
  if (kPutsHandlersOff) GTEST_SKIP() << "not with ThreadSanitizer";
  AwayChild away;
  ASSERT_TRUE(away.hold());
  HomeRebuild rebuild = away.rebuild();
  const Status loaded = rebuild.load(away.state());
  ASSERT_TRUE(loaded) << loaded.error().message();
  const auto pending = pending_signals(away.child().pid());
  ASSERT_TRUE(pending);
  EXPECT_EQ(*pending, 0U);
  const Status finished = rebuild.finish(
      with_signals(away.state(), {queued(SIGUSR1, 1), queued(kRealtime, 2), queued(kRealtime, 3)}));
  ASSERT_TRUE(finished) << finished.error().message();
  EXPECT_EQ(away.end(), (std::vector{1, 2, 3}));
}

TEST(HomeRebuild, WhatWaitsForTheProcessComesAfterWhatWasTakenFromIt) {
  if (kPutsHandlersOff) GTEST_SKIP() << "not with ThreadSanitizer";
  AwayChild away;
  ASSERT_TRUE(away.hold());
  sigqueue(away.child().pid(), kRealtime, {.sival_int = 2});
  HomeRebuild rebuild = away.rebuild();
  ASSERT_TRUE(rebuild.load(away.state()));
  ASSERT_TRUE(rebuild.finish(with_signals(away.state(), {queued(kRealtime, 1)})));
  EXPECT_EQ(away.end(), (std::vector{1, 2}));
}

TEST(HomeRebuild, SignalsThatFindNoRoomAreAllTakenBack) {
  if (kPutsHandlersOff) GTEST_SKIP() << "not with ThreadSanitizer";
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  AwayChild away(2);
  ASSERT_TRUE(away.hold());
  const auto mask = away.thread().thread().signal_mask();
  sigqueue(away.child().pid(), kRealtime, {.sival_int = 7});
  HomeRebuild rebuild = away.rebuild();
  ASSERT_TRUE(rebuild.load(away.state()));
  EXPECT_FALSE(rebuild.finish(with_signals(
      away.state(), {queued(SIGUSR1, 1), queued(kRealtime, 2), queued(kRealtime, 3)})));
  EXPECT_EQ(*away.thread().thread().signal_mask(), *mask);
  // And it can come home yet.
  EXPECT_EQ(away.thread().thread().rseq()->pointer, 0U);
  const Status loaded = rebuild.load(away.state());
  ASSERT_TRUE(loaded) << loaded.error().message();
  ASSERT_TRUE(rebuild.finish(away.state()));
  EXPECT_EQ(away.end(), std::vector{7});
}

TEST(HomeRebuild, AThreadThatCannotBeIsRefusedWhileTheProcessIsStillHollow) {
  if (kPutsHandlersOff) GTEST_SKIP() << "not with ThreadSanitizer";
  AwayChild away;
  ASSERT_TRUE(away.hold());
  HomeRebuild rebuild = away.rebuild();
  for (const bool by_registers : {false, true}) {
    ProcessState state = away.state();
    ThreadState& thread = state.threads.front();
    if (by_registers) {
      thread.registers.cs = 0;
    } else {
      constexpr std::size_t kFeaturesInUse = 512;  // XSTATE_BV
      std::fill_n(thread.extended_state.begin() + kFeaturesInUse, 8, std::byte{0xff});
    }
    ASSERT_TRUE(rebuild.load(state));
    EXPECT_FALSE(rebuild.finish(with_signals(state, {queued(SIGUSR1, 1)})));
    EXPECT_TRUE(away.call(SYS_getpid, {}));
  }
  ASSERT_TRUE(rebuild.load(away.state()));
  ASSERT_TRUE(rebuild.finish(with_signals(away.state(), {queued(SIGUSR1, 2)})));
  EXPECT_EQ(away.end(), std::vector{2});
}

TEST(MemoryDrop, LeavesNothingButWhatIsKeptPieceByPiece) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  constexpr std::uint64_t kSize = 40 << 20;
  AwayChild away;
  ASSERT_TRUE(away.hold());
  const auto at = away.call(
      SYS_mmap, {0, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0});
  ASSERT_TRUE(at);
  const Bytes ones(kSize, std::byte{1});
  ASSERT_TRUE(away.child().memory().write(ForeignAddress(*at), ones));
  const ForeignRange kept{ForeignAddress(*at + kPageSize), ForeignAddress(*at + 2 * kPageSize)};
  auto drop = MemoryDrop::of(away.child().pid(), away.thread().scratch(), kept);
  ASSERT_TRUE(drop);
  int pieces = 0;
  for (; !drop->done(); ++pieces) {
    auto injection = Injection::trapping(away.child().thread(), away.thread().scratch());
    ASSERT_TRUE(injection);
    ASSERT_TRUE(drop->drop_next(*injection));
    ASSERT_TRUE(injection->end());
  }
  EXPECT_GE(pieces, 3);
  Bytes now(kSize);
  ASSERT_TRUE(away.child().memory().read(ForeignAddress(*at), now));
  EXPECT_EQ(std::count(now.begin(), now.end(), std::byte{1}), static_cast<long>(kPageSize));
  EXPECT_EQ(now[kPageSize], std::byte{1});
}

TEST(HomeRebuild, AHeapThatDoesNotFitIsAnError) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  AwayChild away;
  ASSERT_TRUE(away.hold());
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  layout->brk += 1ULL << 46;
  const Status laid_out = away.rebuild().lay_out(*layout);
  ASSERT_FALSE(laid_out);
  EXPECT_NE(laid_out.error().message().find("heap"), std::string::npos);
}

// Where the file was stands something by now whose opening waits.
TEST(HomeRebuild, AMovedMappingIsNotSoughtInAFifo) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  const std::string path = "/dev/shm/hollow-process-test-" + std::to_string(getpid());
  const OwnedFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), kPageSize), 0);
  AwayChild away;
  ASSERT_TRUE(away.hold());
  ASSERT_TRUE(away.call(SYS_mmap, {kPlace, kPageSize, PROT_READ, MAP_PRIVATE | MAP_FIXED,
                                   static_cast<std::uint64_t>(file.get()), 0}));
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  for (Area& area : layout->areas) {
    if (area.range == pages_at_place(0, 1)) area.range = pages_at_place(2, 3);
  }
  ASSERT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const auto began = std::chrono::steady_clock::now();
  const Status laid_out = away.rebuild().lay_out(*layout);
  unlink(path.c_str());
  ASSERT_FALSE(laid_out);
  EXPECT_NE(laid_out.error().message().find("no longer the file"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

namespace {

/// Limits the child's address space to what it has now, which nobody without privileges raises
/// again; but who may raise it shall not either, or it would be no test.
void limit_for_good(AwayChild& away, std::uint64_t size) {
  const ForeignAddress at = away.thread().scratch().data();
  ASSERT_TRUE(away.child().memory().write_record(at, rlimit64{size, size}));
  ASSERT_TRUE(away.call(SYS_setresuid, {kOther, kOther, kOther}));
  ASSERT_TRUE(away.call(SYS_prlimit64, {0, RLIMIT_AS, at.value(), 0}));
}

std::uint64_t mapped_size(pid_t pid) {
  const auto status = read_proc_file("/proc/" + std::to_string(pid) + "/status");
  const auto at = status ? status->find("VmSize:") : std::string::npos;
  return at == std::string::npos ? 0 : std::strtoull(status->c_str() + at + 7, nullptr, 10) << 10;
}

Area anonymous_area(ForeignRange range) {
  Area area;
  area.range = range;
  area.protection = PROT_READ | PROT_WRITE;
  area.flags = Area::kNoReserve;
  return area;
}

}  // namespace

// It has grown away up to its limit, and let other memory go: at home there is room for that once
// the scratch is cut down and the other memory gone.
TEST(HomeRebuild, AHardLimitIsKeptThatOnlyTheProgramItselfMeets) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  constexpr std::uint64_t kOld = 2048, kNew = 6000;  // pages
  AwayChild away;
  ASSERT_TRUE(away.hold());
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  const std::uint64_t program = mapped_size(away.child().pid()) - Scratch::size_for(1);
  ASSERT_TRUE(away.call(SYS_mmap, {kPlace, kOld * kPageSize, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ULL, 0}));
  const std::uint64_t limit =
      program + kNew * kPageSize + Scratch::least_size_for(1) + 4 * kPageSize;
  limit_for_good(away, limit);
  layout->areas.push_back(anonymous_area(pages_at_place(8192, 8192 + kNew)));
  std::ranges::sort(layout->areas, {}, [](const Area& a) { return a.range.start; });
  {
    HomeRebuild rebuild = away.rebuild();
    const Status laid_out = rebuild.lay_out(*layout);
    ASSERT_TRUE(laid_out) << laid_out.error().message();
    EXPECT_EQ(away.areas(pages_at_place(8192, 8192 + kNew)).size(), 1U);
  }
  // It was not brought to an end: P serves on, with all of its scratch.
  const ForeignAddress last = away.thread().scratch().range().end + -sizeof(int);
  EXPECT_TRUE(away.child().memory().write_record(last, 1));
  const auto limits = memory_limits_of(away.child().pid());
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->address_space, (Limit{limit, limit}));
}

TEST(HomeRebuild, SoftLimitsAreInForceAgainAtHome) {
  if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  AwayChild away;
  ASSERT_TRUE(away.hold());
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  auto layout = away.layout();
  ASSERT_TRUE(layout) << layout.error().message();
  const std::uint64_t limit = mapped_size(away.child().pid()) - Scratch::size_for(1) + kPageSize;
  const ForeignAddress at = away.thread().scratch().data();
  ASSERT_TRUE(away.child().memory().write_record(at, rlimit64{limit, RLIM64_INFINITY}));
  ASSERT_TRUE(away.call(SYS_prlimit64, {0, RLIMIT_AS, at.value(), 0}));
  layout->areas.push_back(anonymous_area(pages_at_place(0, 1)));
  std::ranges::sort(layout->areas, {}, [](const Area& a) { return a.range.start; });
  HomeRebuild rebuild = away.rebuild();
  const Status laid_out = rebuild.lay_out(*layout);
  ASSERT_TRUE(laid_out) << laid_out.error().message();
  ASSERT_TRUE(rebuild.load(away.state()));
  const Status finished = rebuild.finish(away.state());
  ASSERT_TRUE(finished) << finished.error().message();
  const auto limits = memory_limits_of(away.child().pid());
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->address_space, (Limit{limit, Limit::kNone}));
}

// The one has a page of its own there, so that its content cannot be the other's.
TEST(Capture, TwoMappingsOfAFileAreTwoContentsIfOneHasBeenWrittenTo) {
  const NamelessFile file;
  AwayChild away;
  ASSERT_TRUE(away.hold());
  for (const std::uint64_t page : {0, 4}) {
    ASSERT_TRUE(
        away.call(SYS_mmap, {kPlace + page * kPageSize, 4 * kPageSize, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_FIXED, static_cast<std::uint64_t>(file.fd()), 0}));
  }
  ASSERT_TRUE(away.child().memory().write_record(ForeignAddress(kPlace + kPageSize), 'x'));
  const auto page_map = away.pages();
  ASSERT_TRUE(page_map);
  ASSERT_TRUE(away.contents().take_up(away.areas(), away.child().memory(), *page_map));
  const auto areas = away.areas(pages_at_place(0, 8));
  ASSERT_EQ(areas.size(), 2U);
  const auto written = away.contents().find(areas[0]), clean = away.contents().find(areas[1]);
  ASSERT_TRUE(written && clean);
  EXPECT_NE(written->index, clean->index);
  std::array<std::byte, 1> byte{};
  ASSERT_TRUE(away.contents().read(away.child().memory(), clean->index, kPageSize, byte));
  EXPECT_EQ(byte[0], std::byte{'b'});
}

}  // namespace drover
