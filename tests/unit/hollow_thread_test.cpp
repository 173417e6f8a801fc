#include "remote-syscall/hollow_thread.h"

#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <memory>
#include <thread>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

/// A child that is hollow: it rests, and executes what it is told.
class HollowChild {
 public:
  HollowChild() : child_([] { return pause(); }) {
    child_.await_sleep();
    child_.seize();
    child_.interrupt();
    const auto registers = child_.thread().registers();
    const auto scratch = child_.make_scratch();
    if (!registers || !scratch) throw std::runtime_error("no scratch in the child");
    thread_ =
        std::make_unique<HollowThread>(child_.thread(), child_.memory(), *scratch, *registers);
  }

  TracedChild& child() { return child_; }
  HollowThread& operator*() { return *thread_; }
  HollowThread* operator->() { return thread_.get(); }

 private:
  TracedChild child_;
  std::unique_ptr<HollowThread> thread_;
};

void spin(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

CallRequest waiting_call() {
  CallRequest request;
  request.number = SYS_pause;
  return request;
}

}  // namespace

TEST(HollowThread, TakesTheSignalThatWaitsWhenItIsStoppedInACall) {
  HollowChild hollow;
  for (int i = 0; i < 200; ++i) {
    CallRequest call = waiting_call();
    ASSERT_TRUE(hollow->start(call));
    kill(hollow.child().pid(), SIGUSR1);
    ASSERT_TRUE(hollow->stop());
    const auto signal = hollow->take_signal();
    ASSERT_TRUE(signal);
    EXPECT_EQ(signal->info.si_signo, SIGUSR1);
    ASSERT_TRUE(hollow->cancel());
    static_cast<void>(hollow->take_result());
  }
}

TEST(HollowThread, IsFoundStoppedWithTheSignalThatWaitsWhenItsStopIsNotWaitedFor) {
  HollowChild hollow;
  for (int i = 0; i < 200; ++i) {
    const bool signalled = i % 2 == 0;
    CallRequest call = waiting_call();
    ASSERT_TRUE(hollow->start(call));
    if (signalled) kill(hollow.child().pid(), SIGUSR1);
    ASSERT_TRUE(hollow->begin_to_stop());
    while (hollow->state() == HollowThread::State::kCalling) ASSERT_TRUE(hollow->look());
    EXPECT_EQ(hollow->take_signal().has_value(), signalled);
    if (!signalled) {
      const auto result = hollow->take_result();
      EXPECT_TRUE(result && is_restart(*result));
    }
    ASSERT_TRUE(hollow->cancel());
  }
}

// A stop takes a SIGCONT back that waits, at any moment, and may itself be blocked.
TEST(HollowThread, DoesNotWaitForASignalThatHasVanished) {
  HollowChild hollow;
  ASSERT_TRUE(hollow->thread().set_signal_mask(signal_bit(SIGTSTP)));
  constexpr int kTurns = 3000;
  std::atomic<int> turn = -1, sent = -1;
  std::thread sender([&, pid = hollow.child().pid()] {
    for (int i = 0; i < kTurns; ++i) {
      while (turn < i) {
      }
      spin(std::chrono::microseconds(i % 61));
      kill(pid, SIGCONT);
      spin(std::chrono::microseconds(i % 53));
      kill(pid, SIGTSTP);
      sent = i;
    }
  });
  for (int i = 0; i < kTurns; ++i) {
    CallRequest call = waiting_call();
    EXPECT_TRUE(hollow->start(call));
    turn = i;
    const auto stopped = hollow->stop();
    while (sent < i) sched_yield();
    EXPECT_TRUE(stopped) << stopped.error().message();
    EXPECT_EQ(hollow->state(), HollowThread::State::kStopped);
    while (hollow->take_signal()) {
    }
    EXPECT_TRUE(hollow->cancel());
    static_cast<void>(hollow->take_result());
  }
  sender.join();
}

TEST(HollowThread, WaitsForAStopNoLongerThanItIsTold) {
  HollowChild hollow;
  ASSERT_TRUE(hollow->park());
  const auto early = hollow->await_stop(std::chrono::milliseconds(30));
  ASSERT_TRUE(early);
  EXPECT_FALSE(*early);
  kill(hollow.child().pid(), SIGUSR1);
  const auto stopped = hollow->await_stop(std::chrono::seconds(5));
  ASSERT_TRUE(stopped);
  EXPECT_TRUE(*stopped);
  EXPECT_TRUE(hollow->take_signal());
}

TEST(HollowThread, DiesByTheSignalThatItIsTold) {
  HollowChild hollow;
  ASSERT_TRUE(hollow->begin_to_die(SIGTERM));
  ASSERT_TRUE(hollow->await_end());
  EXPECT_EQ(hollow->state(), HollowThread::State::kGone);
  EXPECT_TRUE(WIFSIGNALED(hollow->wait_status()) && WTERMSIG(hollow->wait_status()) == SIGTERM);
}

}  // namespace drover
