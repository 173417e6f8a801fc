#include "remote-syscall/hollow_thread.h"

#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

/// A child that is hollow: it rests, and executes what it is told.
class HollowChild {
 public:
  HollowChild() : own_(std::make_unique<TracedChild>([] { return pause(); })), child_(*own_) {
    hold();
  }
  explicit HollowChild(TracedChild& child) : child_(child) { hold(); }

  TracedChild& child() { return child_; }
  HollowThread& operator*() { return *thread_; }
  HollowThread* operator->() { return thread_.get(); }

 private:
  void hold() {
    child_.await_sleep();
    child_.seize();
    child_.interrupt();
    const auto registers = child_.thread().registers();
    const auto scratch = child_.make_scratch();
    if (!registers || !scratch) throw std::runtime_error("no scratch in the child");
    thread_ =
        std::make_unique<HollowThread>(child_.thread(), child_.memory(), *scratch, *registers);
  }

  std::unique_ptr<TracedChild> own_;
  TracedChild& child_;
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

/// Looks at it until that is so.
template <class F>
bool look_until(HollowThread& thread, F so) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!so()) {
    if (std::chrono::steady_clock::now() > deadline || !thread.look()) return false;
    sched_yield();
  }
  return true;
}

TEST(HollowThread, IsStoppedBySignalsWhoseActionThatIs) {
  HollowChild hollow;
  for (const int signal : {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}) {
    ASSERT_TRUE(hollow->park());
    kill(hollow.child().pid(), signal);
    ASSERT_TRUE(look_until(*hollow, [&] { return hollow->has_joined_stop(); }));
    EXPECT_FALSE(hollow->take_signal());
    kill(hollow.child().pid(), SIGUSR1);  // waits for the end of the stop
    ASSERT_TRUE(hollow->stop());
    EXPECT_TRUE(hollow->in_group_stop());
    EXPECT_FALSE(hollow->take_signal());
    ASSERT_TRUE(hollow->park());
    ASSERT_TRUE(look_until(*hollow, [&] { return hollow->has_joined_stop(); }));
    kill(hollow.child().pid(), SIGCONT);
    using State = HollowThread::State;
    ASSERT_TRUE(look_until(*hollow, [&] { return hollow->state() == State::kStopped; }));
    EXPECT_FALSE(hollow->in_group_stop());
    std::set<int> taken;
    while (taken.size() < 2) {
      ASSERT_TRUE(hollow->park());
      ASSERT_TRUE(look_until(*hollow, [&] { return hollow->state() == State::kStopped; }));
      const auto told = hollow->take_signal();
      ASSERT_TRUE(told);
      taken.insert(told->info.si_signo);
    }
    EXPECT_EQ(taken, (std::set{SIGUSR1, SIGCONT}));
  }
}

TEST(HollowThread, ASignalThatTheProgramHandlesOrIgnoresStopsNothing) {
  TracedChild child([] {
    signal(SIGTSTP, [](int) {});
    signal(SIGTTIN, SIG_IGN);
    return pause();
  });
  HollowChild hollow(child);
  for (const int signal : {SIGTSTP, SIGTTIN}) {
    ASSERT_TRUE(hollow->park());
    kill(child.pid(), signal);
    ASSERT_TRUE(*hollow->await_stop(std::chrono::seconds(5)));
    const auto told = hollow->take_signal();
    ASSERT_TRUE(told);
    EXPECT_EQ(told->info.si_signo, signal);
  }
}

TEST(HollowThread, GoesOnAfterAStopWithTheCallThatItIsIn) {
  HollowChild hollow;
  for (const bool timed : {true, false}) {
    CallRequest call = waiting_call();
    if (timed) {
      call.number = SYS_nanosleep;
      call.data.resize(sizeof(timespec));
      const timespec length{0, 300'000'000};
      std::memcpy(call.data.data(), &length, sizeof length);
      call.relocations.push_back({Relocation::kArgument + 0, 0});
    }
    const auto began = std::chrono::steady_clock::now();
    ASSERT_TRUE(hollow->start(call));
    hollow.child().await_sleep();
    kill(hollow.child().pid(), SIGSTOP);
    ASSERT_TRUE(look_until(*hollow, [&] { return hollow->has_joined_stop(); }));
    EXPECT_FALSE(hollow->has_result());
    if (!timed) kill(hollow.child().pid(), SIGUSR1);
    kill(hollow.child().pid(), SIGCONT);
    ASSERT_TRUE(look_until(*hollow, [&] { return !hollow->in_group_stop(); }));
    std::optional<std::int64_t> result;
    ASSERT_TRUE(look_until(*hollow, [&] {
      while (const auto told = hollow->take_signal()) {  // of SIGCONT, that has been ignored
        if (told->info.si_signo == SIGCONT) {
          if (told->interrupted) static_cast<void>(hollow->go_on());
        } else {
          result = told->interrupted;
        }
      }
      if (hollow->has_result()) result = hollow->take_result();
      return result.has_value();
    }));
    EXPECT_EQ(*result, timed ? 0 : kErestartnohand);
    if (timed) {
      EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(300));
    }
    ASSERT_TRUE(hollow->cancel());
  }
}

// Whatever comes last decides, at any moment, also while calls are made in it.
TEST(HollowThread, ItIsStoppedIfAndOnlyIfTheLastThatCameWasAStop) {
  HollowChild hollow;
  constexpr int kTurns = 2000;
  std::atomic<int> turn = -1, sent = -1;
  std::thread sender([&, pid = hollow.child().pid()] {
    for (int i = 0; i < kTurns; ++i) {
      while (turn < i) sched_yield();
      spin(std::chrono::microseconds(i % 61));
      kill(pid, i % 2 == 0 ? SIGSTOP : SIGCONT);
      spin(std::chrono::microseconds(i % 31));
      kill(pid, i % 2 == 0 ? SIGCONT : SIGSTOP);
      sent = i;
    }
  });
  for (int i = 0; i < kTurns; ++i) {
    turn = i;
    EXPECT_TRUE(hollow->stop());
    if (i % 3 == 0) {
      auto injection = Injection::trapping(hollow->thread(), hollow->scratch());
      ASSERT_TRUE(injection);
      EXPECT_TRUE(injection->call("getpid", SYS_getpid));
      EXPECT_TRUE(injection->end());
    }
    EXPECT_TRUE(hollow->park());
    while (sent < i) sched_yield();
    const bool is_stopped = i % 2 == 1;
    const bool so = look_until(*hollow, [&] {
      while (hollow->take_signal()) {
      }
      if (hollow->state() == HollowThread::State::kStopped) static_cast<void>(hollow->park());
      return hollow->has_joined_stop() == is_stopped;
    });
    ASSERT_TRUE(so) << i;
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
