#include "common/process/injection.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

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

/// A scratch in the stopped child, with the frame that brings it back.
Result<Scratch> make_scratch(TracedChild& child) {
  DROVER_TRY(const Registers registers, child.thread().registers());
  DROVER_TRY(const Bytes state, child.thread().extended_state());
  DROVER_TRY(const SignalMask mask, child.thread().signal_mask());
  DROVER_TRY(Injection injection, child.by_vdso());
  DROVER_TRY(const std::uint64_t start,
             injection.call(
                 "mmap", SYS_mmap,
                 {0, Scratch::kSize, PROT_READ | PROT_WRITE | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, static_cast<std::uint64_t>(-1), 0}));
  DROVER_CHECK(injection.end());
  const Scratch scratch{ForeignAddress(start)};
  DROVER_CHECK(scratch.write_code(child.memory()));
  DROVER_CHECK(scratch.write_return_frame(child.memory(), registers, state, mask));
  return scratch;
}

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
  const auto scratch = make_scratch(child);
  ASSERT_TRUE(scratch) << scratch.error().message();
  for (const auto site : {Injection::Site::kReturning, Injection::Site::kTrapping}) {
    auto injection = Injection::begin(child.thread(), site, *scratch);
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

TEST(Injection, TheCallThatWasInterruptedGoesOn) {
  for (int i = 0; i < 200; ++i) {
    Echo echo;
    echo.child().seize();
    echo.child().interrupt();
    {
      auto injection = echo.child().by_vdso();
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
  auto injection = child.by_vdso();
  ASSERT_TRUE(injection);
  kill(child.pid(), SIGTERM);
  EXPECT_TRUE(injection->call("getuid", SYS_getuid));
  ASSERT_TRUE(injection->end());
  child.detach();
  EXPECT_EQ(child.end(), -SIGTERM);
}

TEST(Injection, AStopThatComesMeanwhileComesAgain) {
  Echo echo;
  TracedChild& child = echo.child();
  child.seize();
  child.interrupt();
  const auto scratch = make_scratch(child);
  ASSERT_TRUE(scratch);
  auto injection = Injection::begin(child.thread(), Injection::Site::kTrapping, *scratch);
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
  const ForeignAddress nowhere(kPageSize * 3);
  auto injection = Injection::begin(child.thread(), Injection::Site::kTrapping, nowhere);
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
  auto injection = child.by_vdso();
  ASSERT_TRUE(injection);
  std::thread killer([&] {
    usleep(20'000);
    kill(child.pid(), SIGKILL);
  });
  EXPECT_FALSE(injection->raw(SYS_pause));
  killer.join();
}

// The tracer is a process of its own that is killed inside an injected call.
TEST(Injection, AReturningCallGoesBackByItselfWhenItsTracerDies) {
  for (const int delay_ms : {0, 1, 2, 5, 10, 20, 40}) {
    Echo echo;
    TracedChild& child = echo.child();
    const pid_t tracer = fork();
    if (tracer == 0) {
      child.seize();
      child.interrupt();
      auto scratch = make_scratch(child);
      if (!scratch) _exit(1);
      auto injection = Injection::begin(child.thread(), Injection::Site::kReturning, *scratch);
      if (!injection) _exit(1);
      const timespec pause{0, 3'000'000};
      if (!child.memory().write_record(scratch->data(), pause)) _exit(1);
      for (;;) {
        if (!injection->raw(SYS_nanosleep, {scratch->data().value(), 0})) _exit(1);
      }
    }
    usleep(20'000 + static_cast<useconds_t>(delay_ms) * 1000);
    kill(tracer, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(tracer, &status, 0), tracer);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the tracer failed";
    echo.expect_answer();
    echo.expect_answer();
    EXPECT_EQ(echo.end(), 0);
  }
}

}  // namespace drover
