#include "common/process/limits.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "remote-syscall/body_limits.h"

using namespace drover;

namespace {

constexpr const char* kLimits =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max cpu time              5                    unlimited            seconds   \n"
    "Max data size             unlimited            unlimited            bytes     \n"
    "Max stack size            8388608              16777216             bytes     \n";

constexpr std::uint64_t kMiB = 1 << 20;

/// A child that waits; it ends with us.
class Waiting {
 public:
  Waiting() : pid_(fork()) {
    if (pid_ == 0)
      for (;;) pause();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

}  // namespace

TEST(Limits, AreReadByTheirNames) {
  EXPECT_EQ(limit_in(kLimits, "Max cpu time"), (Limit{5, Limit::kNone}));
  EXPECT_EQ(limit_in(kLimits, "Max data size"), Limit{});
  EXPECT_EQ(limit_in(kLimits, "Max stack size"), (Limit{8388608, 16777216}));
  EXPECT_EQ(limit_in(kLimits, "Max stack"), std::nullopt);
  EXPECT_EQ(limit_in(kLimits, "Max cares"), std::nullopt);
  EXPECT_EQ(limit_in("\nMax cpu time 5x unlimited seconds\n", "Max cpu time"), std::nullopt);
  EXPECT_EQ(limit_in("\nMax cpu time 5\n", "Max cpu time"), std::nullopt);
}

TEST(Limits, AreThoseOfTheProcess) {
  rlimit own{};
  getrlimit(RLIMIT_STACK, &own);
  const auto limits = memory_limits_of(getpid());
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->stack, (Limit{own.rlim_cur, own.rlim_max}));
  getrlimit(RLIMIT_CPU, &own);
  EXPECT_EQ(*cpu_limit_of(getpid()), (Limit{own.rlim_cur, own.rlim_max}));
  EXPECT_FALSE(cpu_limit_of(1 << 22));
}

TEST(BodyLimits, LeaveOurOwnMappingOut) {
  const Scratch scratch(ForeignAddress(1ULL << 40), 3);
  MemoryLimits at_home;
  EXPECT_EQ(limits_of_body(at_home, scratch), at_home) << "no limits";
  at_home.address_space.soft = 100 * kMiB;
  at_home.data.soft = 50 * kMiB;
  at_home.stack = {8 * kMiB, 9 * kMiB};
  const MemoryLimits here = limits_of_body(at_home, scratch);
  EXPECT_EQ(here.address_space.soft, 100 * kMiB + scratch.range().size());
  EXPECT_EQ(here.data.soft, 50 * kMiB + Scratch::size_for(1) - kPageSize);
  EXPECT_EQ(here.stack.soft, 8 * kMiB);
  at_home.address_space.soft = Limit::kNone - 1;
  EXPECT_EQ(limits_of_body(at_home, scratch).address_space.soft, Limit::kNone) << "no overflow";
}

// It has to fit at home together with what of the mapping is needed there.
TEST(BodyLimits, LeaveRoomForTheHomecomingBelowAHardLimit) {
  const Scratch scratch(ForeignAddress(1ULL << 40), 3);
  const std::uint64_t room = Scratch::least_size_for(3);
  MemoryLimits at_home;
  at_home.address_space = {100 * kMiB, 100 * kMiB};
  EXPECT_EQ(limits_of_body(at_home, scratch).address_space.soft,
            100 * kMiB - room + scratch.range().size());
  at_home.address_space = {100 * kMiB, 200 * kMiB};
  EXPECT_EQ(limits_of_body(at_home, scratch).address_space.soft,
            100 * kMiB + scratch.range().size());
  at_home.address_space = {0, 0};
  EXPECT_EQ(limits_of_body(at_home, scratch).address_space.soft, scratch.range().size());
}

TEST(BodyLimits, AreSoftOnes) {
  const Waiting child;
  Body body;
  body.pid = child.pid();
  body.scratch = Scratch(ForeignAddress(1ULL << 40), 1);
  MemoryLimits at_home;
  at_home.data = {kMiB, kMiB};
  at_home.stack = {2 * kMiB, 2 * kMiB};
  const auto before = memory_limits_of(child.pid());
  ASSERT_TRUE(before);
  ASSERT_TRUE(limit_body(body, at_home));
  auto now = memory_limits_of(child.pid());
  ASSERT_TRUE(now);
  EXPECT_EQ(now->stack, (Limit{2 * kMiB, before->stack.hard}));
  EXPECT_EQ(now->data.soft, limits_of_body(at_home, body.scratch).data.soft);
  EXPECT_EQ(now->address_space, before->address_space);
  EXPECT_EQ(body.limits, at_home);
  ASSERT_TRUE(limit_body(body, *before));
  now = memory_limits_of(child.pid());
  EXPECT_EQ(now->stack, before->stack) << "given back";
}

TEST(BodyLimits, OfABodyThatHasEndedDoNotMatter) {
  Body body;
  body.pid = 1 << 22;
  EXPECT_TRUE(limit_body(body, MemoryLimits{}));
}
