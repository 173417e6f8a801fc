#include "common/process/new_thread.h"

#include <sched.h>
#include <sys/resource.h>

#include <cerrno>
#include <set>

#include "common/process/limits.h"
#include "common/process/thread_list.h"
#include "tests/unit/traced_child.h"

namespace drover {
namespace {

constexpr std::uint64_t kThread =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

clone_args thread_like(std::uint64_t flags) {
  clone_args wanted{};
  wanted.flags = flags;
  return wanted;
}

/// A stopped child that waits for ever, with a scratch.
class NewThreads : public ::testing::Test {
 protected:
  void SetUp() override {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigset_t before;
    sigprocmask(SIG_BLOCK, &mask, &before);
    child_.emplace([] {
      for (;;) pause();
      return 0;
    });
    sigprocmask(SIG_SETMASK, &before, nullptr);
    child_->await_sleep();
    child_->seize();
    child_->interrupt();
    auto scratch = child_->make_scratch();
    ASSERT_TRUE(scratch) << scratch.error().message();
    scratch_ = *scratch;
  }

  // The leading thread's end is told only when the others' has been.
  void TearDown() override {
    kill(child_->pid(), SIGKILL);
    for (int status = 0; waitpid(-1, &status, __WALL) != child_->pid();) continue;
    child_->ended();
  }

  /// A sanitizer may have one of its own in the child.
  std::set<pid_t> threads() const {
    const auto all = threads_of(child_->pid());
    return all ? std::set<pid_t>(all->begin(), all->end()) : std::set<pid_t>();
  }

  /// That of no process or thread.
  std::int32_t free_id() const {
    std::int32_t id = child_->pid();
    while (kill(--id, 0) == 0 || errno != ESRCH) continue;
    return id;
  }

  std::optional<TracedChild> child_;
  Scratch scratch_;
};

TEST_F(NewThreads, AreHeldAndLikeTheirMaker) {
  const auto before = child_->thread().registers();
  const auto threads_before = threads();
  const auto made = make_thread(child_->thread(), child_->memory(), scratch_, thread_like(kThread));
  ASSERT_TRUE(made) << made.error().message();
  ASSERT_GT(made->result, 0);
  EXPECT_EQ(made->result, made->thread.tid());
  auto threads_then = threads_before;
  threads_then.insert(made->thread.tid());
  EXPECT_EQ(threads(), threads_then);
  const auto mask = made->thread.signal_mask();
  ASSERT_TRUE(mask);
  EXPECT_EQ(*mask, signal_bit(SIGUSR2));
  const auto after = child_->thread().registers();
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->rip, before->rip);

  // It executes what it is told to, and its end is told.
  Registers r = *made->thread.registers();
  r.rax = SYS_exit;
  r.rdi = 7;
  r.rip = scratch_.trapping_call().value();
  ASSERT_TRUE(made->thread.set_registers(r));
  ASSERT_TRUE(made->thread.resume());
  const auto end = made->thread.wait();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->kind, Stop::Kind::kExited);
  EXPECT_EQ(WEXITSTATUS(end->wait_status), 7);
}

TEST_F(NewThreads, MayHaveAChosenId) {
  const std::int32_t id = free_id();
  const auto made =
      make_thread(child_->thread(), child_->memory(), scratch_, thread_like(kThread), id);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->result, id);
  const auto again =
      make_thread(child_->thread(), child_->memory(), scratch_, thread_like(kThread), id);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->result, -EEXIST);
}

TEST_F(NewThreads, MayBeBornIntoAStop) {
  kill(child_->pid(), SIGSTOP);
  const auto made = make_thread(child_->thread(), child_->memory(), scratch_, thread_like(kThread));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_GT(made->result, 0);
  EXPECT_TRUE(made->in_group_stop);
  ASSERT_TRUE(made->thread.listen());
  kill(child_->pid(), SIGCONT);
  EXPECT_EQ(made->thread.wait()->kind, Stop::Kind::kInterrupt);
}

TEST_F(NewThreads, ThatTheKernelRefusesHarmNothing) {
  const auto threads_before = threads();
  const auto made = make_thread(child_->thread(), child_->memory(), scratch_,
                                thread_like(CLONE_THREAD | CLONE_VM));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->result, -EINVAL);
  EXPECT_EQ(threads(), threads_before);
}

TEST(SoftLimit, IsTheOneInForce) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit cores{4096, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &cores);
    const rlimit room{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &room);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, WUNTRACED);
  EXPECT_EQ(soft_limit_of(child, "Max core file size"), "4096");
  EXPECT_EQ(soft_limit_of(child, "Max address space"), "unlimited");
  EXPECT_EQ(soft_limit_of(child, "Max cares"), std::nullopt);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  EXPECT_EQ(soft_limit_of(child, "Max core file size"), std::nullopt);
}

}  // namespace
}  // namespace drover
