#include "remote-syscall/effects.h"

#include <sys/syscall.h>

#include <memory>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

constexpr std::uint64_t kDefault = 0;
constexpr std::uint64_t kIgnored = 1;
constexpr std::uint64_t kHandler = 0x1000;

KernelSigaction action(std::uint64_t handler, std::uint64_t flags = 0) {
  return {handler, flags, 0, 0};
}

class EffectsTest : public ::testing::Test {
 protected:
  EffectsTest() : child_([] { return pause(); }) {
    child_.seize();
    child_.interrupt();
    const auto registers = child_.thread().registers();
    const auto scratch = child_.make_scratch();
    if (!registers || !scratch) throw std::runtime_error("no scratch in the child");
    thread_ =
        std::make_unique<HollowThread>(child_.thread(), child_.memory(), *scratch, *registers);
    actions_[SIGUSR1 - 1] = action(kHandler);
    actions_[SIGHUP - 1] = action(kIgnored);
    effects.watch(actions_, signal_bit(SIGCHLD));
  }

  Status call(long number, CallArguments arguments = {}, bool goes_on = false) {
    CallRequest request;
    request.number = static_cast<std::int32_t>(number);
    request.arguments = arguments;
    return effects.call_begins(*thread_, request, goes_on, [this] { return regular; });
  }
  bool none() const { return !effects.first(); }
  pid_t thread_tid() const { return thread_->tid(); }

  Effects effects;
  bool regular = true;

 private:
  TracedChild child_;
  std::unique_ptr<HollowThread> thread_;
  std::array<KernelSigaction, kSignalCount> actions_{};
};

TEST_F(EffectsTest, TheFirstOneIsSaid) {
  ASSERT_TRUE(call(SYS_getppid));
  EXPECT_TRUE(none());
  ASSERT_TRUE(call(SYS_write));
  ASSERT_TRUE(call(SYS_openat));
  EXPECT_EQ(effects.first(), "write");
}

TEST_F(EffectsTest, NobodyIsToldWhoDoesNotWatch) {
  Effects unwatched;
  unwatched.happened("something");
  EXPECT_FALSE(unwatched.first());
}

TEST_F(EffectsTest, WhatIsNotKnownHasOne) {
  ASSERT_TRUE(call(511));
  EXPECT_EQ(effects.first(), "unknown");
}

TEST_F(EffectsTest, AReadAtAPositionHasNoneIfTheFileIsRegular) {
  ASSERT_TRUE(call(SYS_pread64));
  EXPECT_TRUE(none());
  regular = false;
  ASSERT_TRUE(call(SYS_pread64));
  EXPECT_EQ(effects.first(), "pread64");
}

TEST_F(EffectsTest, ACallThatGoesOnIsNoNewOne) {
  ASSERT_TRUE(call(SYS_restart_syscall, {}, /*goes_on=*/true));
  EXPECT_FALSE(effects.has_called(thread_tid()));
  ASSERT_TRUE(call(SYS_nanosleep));
  EXPECT_TRUE(effects.has_called(thread_tid()));
}

TEST_F(EffectsTest, CallsAreAnnouncedFromTheFirstEffectOn) {
  int announced = 0;
  effects.before_calls([&](HollowThread&) {
    ++announced;
    return Status{};
  });
  ASSERT_TRUE(call(SYS_getppid));
  EXPECT_EQ(announced, 0);
  ASSERT_TRUE(call(SYS_write));
  EXPECT_EQ(announced, 1);
  ASSERT_TRUE(call(SYS_getppid));
  EXPECT_EQ(announced, 2);
}

TEST_F(EffectsTest, SignalsThatAreDroppedCountIfTheyWouldHaveWaited) {
  effects.signal_ignored(SIGHUP);
  EXPECT_TRUE(none());
  effects.signal_ignored(SIGCHLD);  // ignored by default, but blocked when it left
  EXPECT_EQ(effects.first(), "signal " + std::to_string(SIGCHLD));
}

TEST_F(EffectsTest, AStopHasNoneIfTheProgramKnewOfItNeitherThenNorWhenItLeft) {
  effects.stops(SIGSTOP);
  effects.stops(SIGTSTP);
  EXPECT_TRUE(none());
}

TEST_F(EffectsTest, AStopThatTheProgramWouldHaveHandledWhenItLeftHasOne) {
  effects.action_changes(SIGUSR1, action(kDefault));
  effects.stops(SIGUSR1);  // stands for one of those that stop
  EXPECT_FALSE(none());
}

TEST_F(EffectsTest, ActionsCanBeUndoneAsLongAsNoSignalIsLostByThem) {
  effects.action_changes(SIGUSR1, action(kDefault));
  effects.action_changes(SIGUSR2, action(kHandler));
  effects.action_changes(SIGHUP, action(kHandler));
  effects.action_changes(SIGHUP, action(kIgnored));  // as it was
  effects.action_changes(SIGWINCH, action(kIgnored));
  effects.action_changes(SIGCHLD, action(kHandler));
  EXPECT_TRUE(none());
  effects.action_changes(SIGUSR1, action(kIgnored));
  EXPECT_FALSE(none());
}

TEST_F(EffectsTest, WhoForgetsItsChildrenCannotUndoThat) {
  effects.action_changes(SIGCHLD, action(kHandler, SA_NOCLDWAIT));
  EXPECT_FALSE(none());
}

}  // namespace
}  // namespace drover
