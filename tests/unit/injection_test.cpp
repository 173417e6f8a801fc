#include "common/process/injection.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "migrate/capture.h"
#include "tests/unit/traced_child.h"

namespace drover {
namespace {

using std::chrono::milliseconds;

/// A child that answers each byte with the next one.
class Echo {
 public:
  Echo() {
    EXPECT_EQ(pipe2(to_, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(from_, O_CLOEXEC), 0);
    child_ = std::make_unique<TracedChild>([this] {
      close(to_[1]);
      char byte = 0;
      ssize_t n;
      while ((n = read(to_[0], &byte, 1)) == 1) {
        ++byte;
        if (write(from_[1], &byte, 1) != 1) return 2;
      }
      return n == 0 ? 0 : 3;
    });
    close(to_[0]);
    close(from_[1]);
    child_->await_sleep();
  }
  ~Echo() {
    child_.reset();
    close(to_[1]);
    close(from_[0]);
  }

  TracedChild& child() { return *child_; }
  void expect_answer() {
    char byte = 'a';
    ASSERT_EQ(write(to_[1], &byte, 1), 1);
    ASSERT_EQ(read(from_[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'b');
  }
  int end() {
    close(std::exchange(to_[1], -1));
    return child_->end();
  }

 private:
  int to_[2] = {-1, -1};
  int from_[2] = {-1, -1};
  std::unique_ptr<TracedChild> child_;
};

/// Traces somebody, in a process of its own, until it is killed.
class KilledTracer {
 public:
  template <class F>
  explicit KilledTracer(F trace) : pid_(fork()) {
    if (pid_ != 0) return;
    trace();
    _exit(1);
  }
  void kill() const {
    ::kill(pid_, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the tracer failed";
  }

 private:
  pid_t pid_;
};

void expect_same(const Registers& a, const Registers& b) {
  EXPECT_EQ(std::memcmp(&a, &b, sizeof a), 0);
}

}  // namespace

TEST(Injection, CallsGiveTheirResultsAndLeaveNoTrace) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto before = child.thread().registers();
  const auto state = child.thread().extended_state();
  const auto scratch = child.make_scratch();
  ASSERT_TRUE(scratch) << scratch.error().message();
  for (const bool traps : {false, true}) {
    auto injection = traps ? Injection::trapping(child.thread(), *scratch) : child.returning();
    ASSERT_TRUE(injection);
    EXPECT_EQ(*injection->call("getpid", SYS_getpid), static_cast<std::uint64_t>(child.pid()));
    EXPECT_EQ(*injection->raw(SYS_close, {9999}), -EBADF);
    const auto failed = injection->call("close", SYS_close, {9999});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EBADF);
    ASSERT_TRUE(injection->end());
    const auto after = child.thread().registers();
    ASSERT_TRUE(before && after);
    expect_same(*before, *after);
    EXPECT_EQ(*child.thread().extended_state(), *state);
  }
  child.detach();
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

TEST(Injection, CallsInARowAreMadeUpToOneThatFails) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto scratch = child.make_scratch();
  ASSERT_TRUE(scratch);
  const auto before = child.thread().registers();
  {
    auto injection = Injection::trapping(child.thread(), *scratch);
    ASSERT_TRUE(injection);
    const std::uint64_t clock = scratch->data().value();
    ASSERT_TRUE(injection->call_all(child.memory(), {}));
    ASSERT_TRUE(injection->call_all(child.memory(),
                                    {{"first", SYS_clock_getres, {CLOCK_MONOTONIC, clock}},
                                     {"second", SYS_umask, {0123}},
                                     {"third",
                                      SYS_process_vm_readv,
                                      {static_cast<std::uint64_t>(child.pid()), 0, 0, 0, 0, 0}}}));
    const auto resolution = child.memory().read_record<timespec>(scratch->data());
    EXPECT_TRUE(resolution && resolution->tv_nsec > 0);
    const Status failed = injection->call_all(child.memory(), {{"fourth", SYS_umask, {0111}},
                                                               {"fifth", SYS_close, {12345}},
                                                               {"sixth", SYS_umask, {0777}}});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EBADF);
    EXPECT_NE(failed.error().message().find("fifth"), std::string::npos);
    const auto mask = injection->raw(SYS_umask, {022});
    EXPECT_TRUE(mask && *mask == 0111) << "what comes after it is not made";
    ASSERT_TRUE(injection->end());
  }
  const auto after = child.thread().registers();
  ASSERT_TRUE(before && after);
  EXPECT_EQ(std::memcmp(&*before, &*after, sizeof *before), 0);
  child.detach();
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

TEST(Injection, TheCallThatWasInterruptedGoesOn) {
  for (int i = 0; i < 200; ++i) {
    Echo echo;
    echo.child().seize();
    echo.child().interrupt();
    {
      auto injection = echo.child().returning();
      ASSERT_TRUE(injection);
      ASSERT_TRUE(injection->call("getuid", SYS_getuid));
    }
    echo.child().detach();
    echo.expect_answer();
  }
}

TEST(Injection, SignalsWaitUntilItIsOver) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  kill(child.pid(), SIGTERM);
  EXPECT_TRUE(injection->call("getuid", SYS_getuid));
  ASSERT_TRUE(injection->end());
  child.detach();
  EXPECT_EQ(child.end(), -SIGTERM);
}

TEST(Injection, AStopThatComesMeanwhileIsToldOfWhenTheThreadIsLetGo) {
  TracedChild child([] { return pause(); });
  child.await_sleep();
  child.seize();
  child.interrupt();
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  kill(child.pid(), SIGSTOP);
  EXPECT_EQ(*injection->call("getpid", SYS_getpid), static_cast<std::uint64_t>(child.pid()));
  ASSERT_TRUE(injection->end());
  ASSERT_TRUE(child.thread().resume());
  EXPECT_EQ(child.thread().wait()->kind, Stop::Kind::kGroupStop);
  ASSERT_TRUE(child.thread().listen());
  kill(child.pid(), SIGCONT);
  EXPECT_EQ(child.thread().wait()->kind, Stop::Kind::kInterrupt);
}

// A SIGCONT that comes after it has the last word.
TEST(Injection, AStopThatComesMeanwhileIsUndoneByWhatComesLater) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto scratch = child.make_scratch();
  ASSERT_TRUE(scratch);
  auto injection = Injection::trapping(child.thread(), *scratch);
  ASSERT_TRUE(injection);
  kill(child.pid(), SIGSTOP);
  EXPECT_TRUE(injection->call("getpid", SYS_getpid));
  kill(child.pid(), SIGCONT);
  EXPECT_TRUE(injection->call("getpid", SYS_getpid));
  ASSERT_TRUE(injection->end());
  child.detach();
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

TEST(Injection, AStopThatComesMeanwhileLastsWhenTheThreadIsLeftAlone) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto scratch = child.make_scratch();
  ASSERT_TRUE(scratch);
  auto injection = Injection::trapping(child.thread(), *scratch);
  ASSERT_TRUE(injection);
  kill(child.pid(), SIGSTOP);
  EXPECT_EQ(*injection->call("getpid", SYS_getpid), static_cast<std::uint64_t>(child.pid()));
  ASSERT_TRUE(injection->end());
  child.detach();
  int status = 0;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  kill(child.pid(), SIGCONT);
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

TEST(Injection, AFaultInItIsAnError) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const Scratch nowhere(ForeignAddress(kPageSize * 3));
  auto injection = Injection::trapping(child.thread(), nowhere);
  ASSERT_TRUE(injection);
  const auto result = injection->raw(SYS_getpid);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("signal 11"), std::string::npos);
}

TEST(Injection, TheEndOfTheProcessIsAnError) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  std::thread killer([&] {
    usleep(20'000);
    kill(child.pid(), SIGKILL);
  });
  EXPECT_FALSE(injection->raw(SYS_pause));
  killer.join();
}

// The tracer is a process of its own that is killed at some moment of many.
TEST(Injection, TheThreadGoesBackByItselfWhenItsTracerDies) {
  for (int i = 0; i < 60; ++i) {
    Echo echo;
    TracedChild& child = echo.child();
    KilledTracer tracer([&] {
      child.seize();
      child.interrupt();
      for (;;) {
        auto injection = child.returning();
        if (!injection || !injection->raw(SYS_getpid)) return;
        if (i % 2 == 0 && !injection->raw(SYS_sched_yield)) return;
        if (!injection->end()) return;
      }
    });
    usleep(5'000 + static_cast<useconds_t>(i) * 100);
    tracer.kill();
    echo.expect_answer();
    EXPECT_EQ(echo.child().blocked_signals(), 0U);
    echo.expect_answer();
    EXPECT_EQ(echo.end(), 0);
  }
}

TEST(Injection, ACallUnderWayIsOverBeforeTheThreadGoesBack) {
  Echo echo;
  TracedChild& child = echo.child();
  KilledTracer tracer([&] {
    child.seize();
    child.interrupt();
    auto injection = child.returning();
    // The pipe that the child itself reads from, as its buffer is.
    if (injection) static_cast<void>(injection->raw(SYS_poll, {0, 0, 200}));
  });
  usleep(50'000);
  tracer.kill();
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

// The kernel keeps in the thread when such a sleep ends, and nowhere else.
TEST(Injection, ASleepGoesOnWhenTheTracerDies) {
  TracedChild child([] {
    const auto start = std::chrono::steady_clock::now();
    const timespec length{1, 0};
    if (syscall(SYS_nanosleep, &length, nullptr) != 0) return 1;
    const auto took = std::chrono::steady_clock::now() - start;
    return took >= milliseconds(1000) && took < milliseconds(1600) ? 0 : 2;
  });
  child.await_sleep();
  usleep(800'000);
  KilledTracer tracer([&] {
    child.seize();
    child.interrupt();
    auto injection = child.returning();
    if (injection) static_cast<void>(injection->raw(SYS_getpid));
    pause();
  });
  usleep(50'000);
  tracer.kill();
  EXPECT_EQ(child.end(), 0);
}

TEST(Injection, WhatATracerHasLeftIsNotInTheNextOnesWay) {
  Echo echo;
  TracedChild& child = echo.child();
  KilledTracer tracer([&] {
    child.seize();
    child.interrupt();
    auto injection = child.returning();
    pause();
  });
  usleep(20'000);
  tracer.kill();
  echo.expect_answer();
  child.await_sleep();
  child.seize();
  child.interrupt();
  const auto areas = parse_maps(*read_proc_file("/proc/self/maps"));
  ASSERT_TRUE(areas);
  const auto vdso = find_vdso(*areas);  // where the child has it too
  ASSERT_TRUE(vdso);
  const auto digest = digest_of_vdso(child.memory(), *vdso);
  const auto own = digest_of_vdso(ForeignMemory(getpid(), {}), *vdso);
  ASSERT_TRUE(digest && own);
  EXPECT_EQ(*digest, *own);
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  EXPECT_EQ(*injection->call("getpid", SYS_getpid), static_cast<std::uint64_t>(child.pid()));
  ASSERT_TRUE(injection->end());
  child.detach();
  echo.expect_answer();
  EXPECT_EQ(echo.end(), 0);
}

TEST(Injection, ACallThatDoesNotReturnIsAnErrorInTime) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto start = std::chrono::steady_clock::now();
  {
    auto injection = child.returning();
    ASSERT_TRUE(injection);
    const auto result = injection->raw(SYS_poll, {0, 0, 20'000});
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().message().find("does not stop"), std::string::npos);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, kStopPatience + std::chrono::seconds(1));
}

TEST(Injection, HowTheProcessEndedIsStillToldAfterwards) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  EXPECT_FALSE(injection->raw(SYS_exit_group, {7}));
  int status = 0;
  ASSERT_EQ(waitpid(child.pid(), &status, __WALL), child.pid());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

}  // namespace drover
