#include "migrate/hollow_process.h"

#include <sys/mman.h>
#include <sys/resource.h>
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
    DROVER_CHECK(clear_registrations(injection, thread));
    DROVER_CHECK(injection.end());
    thread_.emplace(child_->thread(), child_->memory(), scratch_, thread.registers);
    state_.threads.push_back(std::move(thread));
    return {};
  }

  TracedChild& child() { return *child_; }
  const HollowThread& thread() const { return *thread_; }
  const ProcessState& state() const { return state_; }
  HomeRebuild rebuild() const { return {*thread_, child_->memory(), contents_, {}}; }

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
  std::optional<HollowThread> thread_;
};

}  // namespace

TEST(HomeRebuild, SendsNoSignalsBeforeNothingCanFailAnyMore) {
  AwayChild away;
  ASSERT_TRUE(away.hold());
  HomeRebuild rebuild = away.rebuild();
  const Status loaded = rebuild.load(away.state());
  ASSERT_TRUE(loaded) << loaded.error().message();
  const auto pending = pending_signals(away.child().pid());
  ASSERT_TRUE(pending);
  EXPECT_EQ(*pending, 0U);
  const Status finished = rebuild.finish(
      away.state(), {queued(SIGUSR1, 1), queued(kRealtime, 2), queued(kRealtime, 3)});
  ASSERT_TRUE(finished) << finished.error().message();
  EXPECT_EQ(away.end(), (std::vector{1, 2, 3}));
}

TEST(HomeRebuild, WhatWaitsForTheProcessComesAfterWhatWasTakenFromIt) {
  AwayChild away;
  ASSERT_TRUE(away.hold());
  sigqueue(away.child().pid(), kRealtime, {.sival_int = 2});
  HomeRebuild rebuild = away.rebuild();
  ASSERT_TRUE(rebuild.load(away.state()));
  ASSERT_TRUE(rebuild.finish(away.state(), {queued(kRealtime, 1)}));
  EXPECT_EQ(away.end(), (std::vector{1, 2}));
}

TEST(HomeRebuild, SignalsThatFindNoRoomAreAllTakenBack) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  AwayChild away(2);
  ASSERT_TRUE(away.hold());
  const auto mask = away.thread().thread().signal_mask();
  sigqueue(away.child().pid(), kRealtime, {.sival_int = 7});
  HomeRebuild rebuild = away.rebuild();
  ASSERT_TRUE(rebuild.load(away.state()));
  EXPECT_FALSE(rebuild.finish(away.state(),
                              {queued(SIGUSR1, 1), queued(kRealtime, 2), queued(kRealtime, 3)}));
  EXPECT_EQ(*away.thread().thread().signal_mask(), *mask);
  ASSERT_TRUE(rebuild.finish(away.state(), {}));
  EXPECT_EQ(away.end(), std::vector{7});
}

}  // namespace drover
