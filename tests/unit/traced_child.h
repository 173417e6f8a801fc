// A child of the test's own that runs a function and is traced by the test.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "common/process/injection.h"
#include "common/process/memory_map.h"

namespace drover {

// A sanitizer's shadow is terabytes of reserved memory in the child too; ThreadSanitizer puts off
// the child's signal handlers, and takes its calls of the vDSO.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasShadow = true;
#else
constexpr bool kHasShadow = false;
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kPutsHandlersOff = true;
#else
constexpr bool kPutsHandlersOff = false;
#endif

class TracedChild {
 public:
  /// `run` is called in the child; what it returns is its exit status.
  template <class F>
  explicit TracedChild(F run) {
    pid_ = fork();
    if (pid_ == 0) _exit(run());
  }
  TracedChild(const TracedChild&) = delete;
  TracedChild& operator=(const TracedChild&) = delete;
  ~TracedChild() {
    if (ended_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, __WALL);
  }

  pid_t pid() const { return pid_; }
  TracedThread& thread() { return thread_; }
  ForeignMemory& memory() { return memory_; }

  /// Begins to trace it; it runs on.
  void seize() {
    auto thread = TracedThread::seize(pid_, PTRACE_O_TRACESYSGOOD);
    ASSERT_TRUE(thread) << thread.error().message();
    thread_ = *thread;
    auto memory = ForeignMemory::of(pid_);
    ASSERT_TRUE(memory) << memory.error().message();
    memory_ = *std::move(memory);
  }
  /// Stops it, in whatever it does.
  void interrupt() {
    ASSERT_TRUE(thread_.interrupt());
    const auto stopped = thread_.wait();
    ASSERT_TRUE(stopped);
    ASSERT_EQ(stopped->kind, Stop::Kind::kInterrupt);
  }

  /// Waits until it sleeps in the kernel.
  void await_sleep() const {
    for (int i = 0; i < 2000; ++i) {
      const auto stat = read_proc_file("/proc/" + std::to_string(pid_) + "/stat");
      ASSERT_TRUE(stat);
      if ((*stat)[stat->rfind(')') + 2] == 'S') return;
      usleep(1000);
    }
    FAIL() << "the child does not come to rest";
  }

  /// Its signal mask; it need not be traced.
  SignalMask blocked_signals() const {
    const auto status = read_proc_file("/proc/" + std::to_string(pid_) + "/status");
    return std::strtoull(status->c_str() + status->find("\nSigBlk:") + 8, nullptr, 16);
  }

  Result<Injection> returning() { return Injection::returning(thread_, memory_); }

  /// A mapping of ours in the stopped child.
  Result<Scratch> make_scratch() {
    DROVER_TRY(Injection injection, returning());
    DROVER_TRY(const std::uint64_t start,
               injection.call("mmap", SYS_mmap,
                              {0, Scratch::size_for(1), PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                               static_cast<std::uint64_t>(-1), 0}));
    DROVER_CHECK(injection.end());
    const Scratch scratch{ForeignAddress(start)};
    DROVER_CHECK(scratch.write_code(memory_));
    return scratch;
  }

  /// It has been waited for.
  void ended() { ended_ = true; }
  void detach() { ASSERT_TRUE(thread_.detach()); }

  /// Its exit status, or minus the signal that ended it.
  int end() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, __WALL), pid_);
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  TracedThread thread_;
  ForeignMemory memory_;
};

}  // namespace drover
