#include "remote-syscall/cpu_timer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

#include "remote-syscall/cpu_messages.h"
#include "remote-syscall/timers_of_process.h"

using namespace drover;

namespace {

constexpr std::uint64_t kTick = 4;

}  // namespace

TEST(CpuItimer, ExpiresATickAfterWhatItWasSetTo) {
  CpuItimer timer;
  EXPECT_FALSE(timer.armed());
  EXPECT_EQ(timer.left(100, kTick), (TimerSetting{0, 0}));
  timer.set(100, {10, 0}, kTick);
  EXPECT_EQ(timer.expires(), 114u);
  EXPECT_EQ(timer.left(100, kTick), (TimerSetting{14, 0})) << "as the kernel shows it";
  EXPECT_EQ(timer.left(113, kTick), (TimerSetting{1, 0}));
  EXPECT_EQ(timer.left(120, kTick), (TimerSetting{kTick, 0})) << "about to";
  timer.fired();
  EXPECT_FALSE(timer.armed());
  EXPECT_EQ(timer.left(120, kTick), (TimerSetting{0, 0}));
}

TEST(CpuItimer, WithAnIntervalCatchesUpStepByStep) {
  CpuItimer timer;
  timer.take_over(100, {5, 10});
  EXPECT_EQ(timer.expires(), 105u);
  timer.fired();
  EXPECT_EQ(timer.expires(), 115u);
  timer.fired();
  EXPECT_EQ(timer.left(120, kTick), (TimerSetting{5, 10}));
  timer.set(120, {0, 10}, kTick);
  EXPECT_FALSE(timer.armed());
}

TEST(CpuItimer, IsNotBroughtDownByLargeNumbers) {
  CpuItimer timer;
  timer.set(100, {UINT64_MAX - 1, UINT64_MAX}, kTick);
  EXPECT_EQ(timer.expires(), UINT64_MAX);
  timer.fired();
  EXPECT_EQ(timer.expires(), UINT64_MAX);
}

TEST(CpuTimer, ExpiresOnce) {
  CpuTimer timer;
  EXPECT_FALSE(timer.next(100));
  timer.set(100, {10, 0}, false);
  EXPECT_EQ(timer.next(100), 110u);
  EXPECT_FALSE(timer.due(109));
  EXPECT_TRUE(timer.due(110));
  EXPECT_EQ(timer.left(104, kTick), (TimerSetting{6, 0}));
  EXPECT_EQ(timer.left(111, kTick), (TimerSetting{kTick, 0})) << "its signal is still to come";
  timer.fired();
  EXPECT_TRUE(timer.pending());
  EXPECT_FALSE(timer.due(200));
  EXPECT_FALSE(timer.next(200));
  EXPECT_EQ(timer.left(200, kTick), (TimerSetting{0, 0}));
  EXPECT_EQ(timer.taken(200), 0);
  EXPECT_FALSE(timer.pending());
}

TEST(CpuTimer, MayBeSetToAMoment) {
  CpuTimer timer;
  timer.set(100, {90, 0}, true);
  EXPECT_TRUE(timer.due(100)) << "that is past";
  timer.set(100, {150, 0}, true);
  EXPECT_EQ(timer.left(100, kTick), (TimerSetting{50, 0}));
  timer.set(100, {0, 7}, true);
  EXPECT_FALSE(timer.next(100)) << "disarmed";
  EXPECT_EQ(timer.left(100, kTick), (TimerSetting{0, 0}));
}

TEST(CpuTimer, CountsWhatItExpiresWhileItsSignalIsPending) {
  CpuTimer timer;
  timer.set(100, {10, 10}, false);
  ASSERT_TRUE(timer.due(112));
  timer.fired();
  EXPECT_EQ(timer.next(112), 120u) << "its first overrun";
  EXPECT_EQ(timer.left(137, kTick), (TimerSetting{3, 10}));
  EXPECT_EQ(timer.overdue(137), 27u);
  EXPECT_FALSE(timer.due(137));
  EXPECT_EQ(timer.taken(137), 2) << "at 120 and at 130";
  EXPECT_EQ(timer.overrun(), 2);
  EXPECT_EQ(timer.next(137), 140u);
  EXPECT_EQ(timer.taken(150), 0) << "it was not pending";
  ASSERT_TRUE(timer.due(140));
  timer.fired();
  EXPECT_EQ(timer.taken(141), 0);
  EXPECT_EQ(timer.overrun(), 0);
  timer.set(141, {10, 10}, false);
  timer.fired();
  timer.set(200, {10, 10}, false);
  EXPECT_FALSE(timer.pending()) << "set anew";
}

TEST(CpuTimer, GoesOnWithASignalThatWasPendingBefore) {
  CpuTimer timer;
  timer.take_over_pending(100, {4, 10});  // at 104 it is overrun
  EXPECT_TRUE(timer.pending());
  EXPECT_EQ(timer.left(100, kTick), (TimerSetting{4, 10}));
  EXPECT_EQ(timer.next(100), 104u);
  CpuTimer other = timer;
  EXPECT_EQ(timer.taken(103, 5), 5) << "those that were counted elsewhere";
  EXPECT_EQ(other.taken(125, 5), 8) << "and at 104, 114 and 124";
  EXPECT_EQ(other.next(125), 134u);
  EXPECT_EQ(other.periods(104, 103), 0);
  EXPECT_EQ(other.periods(104, 104), 1);
  EXPECT_EQ(other.periods(104, 125), 3);
  CpuTimer once;
  once.take_over_pending(100, {0, 0});
  EXPECT_FALSE(once.next(100));
  EXPECT_EQ(once.taken(100, 0), 0);
}

TEST(CpuTimer, ThatIsSilentCanBeAskedAndNeverExpires) {
  CpuTimer timer(true);
  timer.set(100, {10, 0}, false);
  EXPECT_FALSE(timer.next(100));
  EXPECT_FALSE(timer.due(200));
  EXPECT_EQ(timer.left(105, kTick), (TimerSetting{5, 0}));
  EXPECT_EQ(timer.left(200, kTick), (TimerSetting{0, 0}));
  timer.set(100, {10, 10}, false);
  EXPECT_EQ(timer.left(125, kTick), (TimerSetting{5, 10})) << "its next round";
}

TEST(CpuTimer, IsNotBroughtDownByLargeNumbers) {
  CpuTimer timer;
  timer.set(100, {UINT64_MAX, UINT64_MAX}, false);
  EXPECT_EQ(timer.next(100), UINT64_MAX);
  timer.set(100, {1, 1}, true);
  timer.fired();
  EXPECT_EQ(timer.taken(1ULL << 62), INT32_MAX) << "more than an int holds";
}

TEST(TimersOfProcess, AreReadAsTheKernelListsThem) {
  const auto timers = parse_timers(
      "ID: 4\nsignal: 35/0000000000000000\nnotify: signal/tid.22294\nClockID: -2\n"
      "ID: 1\nsignal: 0/0000000000000001\nnotify: none/pid.22294\nClockID: 1\n"
      "ID: 0\nsignal: 14/0000000000000001\nnotify: signal/pid.22294\nClockID: -6\n");
  ASSERT_TRUE(timers);
  const std::vector<ListedTimer> expected = {
      {4, 35, SIGEV_THREAD_ID, 22294, -2}, {1, 0, SIGEV_NONE, 0, 1}, {0, 14, SIGEV_SIGNAL, 0, -6}};
  EXPECT_EQ(*timers, expected);
  EXPECT_EQ(parse_timers("")->size(), 0u);
  EXPECT_FALSE(parse_timers("signal: 3/0\n"));
  EXPECT_FALSE(parse_timers("ID: 3\nnotify: by mail\n"));
}

TEST(TimersOfProcess, AreThoseOfThisOne) {
  timer_t timer{};
  sigevent event{};
  event.sigev_notify = SIGEV_NONE;
  const auto before = timers_of(getpid());
  ASSERT_TRUE(before);
  ASSERT_EQ(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer), 0);
  const auto after = timers_of(getpid());
  timer_delete(timer);
  ASSERT_TRUE(after);
  ASSERT_EQ(after->size(), before->size() + 1);
  EXPECT_EQ(after->front().notify, SIGEV_NONE);
  EXPECT_EQ(after->front().clock, process_cpu_clock(0, CpuClock::kRuntime));
}

TEST(CpuMessages, AreReadAsTheyWereWritten) {
  CpuUsedMessage used;
  used.process = {3, 2, 1};
  used.user = 4711;
  used.rang = 1;
  used.threads = {{4711, 0, {2, 1, 1}}, {4712, 0, {1, 1, 0}}};
  const auto read = CpuUsedMessage::decode(used.encode());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->encode(), used.encode());
  EXPECT_EQ(read->threads[1].used, (CpuTime{1, 1, 0}));
  CpuWatchMessage watch;
  watch.process[1] = 77;
  watch.threads = {{4711, CpuClock::kVirtual, 5}};
  const auto seen = CpuWatchMessage::decode(watch.encode());
  ASSERT_TRUE(seen);
  EXPECT_EQ(*seen, watch);
}

TEST(CpuMessages, TellOfTimesAndClocksThatThereAre) {
  CpuUsedMessage used;
  used.process.user = UINT64_MAX;
  EXPECT_FALSE(CpuUsedMessage::decode(used.encode()));
  used = {};
  used.threads = {{4711, 0, {UINT64_MAX, 0, 0}}};
  EXPECT_FALSE(CpuUsedMessage::decode(used.encode()));
  CpuWatchMessage watch;
  watch.threads = {{4711, static_cast<CpuClock>(3), 5}};
  EXPECT_FALSE(CpuWatchMessage::decode(watch.encode()));
  const Bytes whole = CpuWatchMessage{}.encode();
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(CpuWatchMessage::decode(longer));
  EXPECT_FALSE(CpuWatchMessage::decode(ByteView(whole).first(whole.size() - 1)));
}
