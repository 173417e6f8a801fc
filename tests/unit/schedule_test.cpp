// How a thread of another process is scheduled, and the body's that follows it.
#include "common/process/schedule.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "common/wire.h"
#include "remote-syscall/body_messages.h"

namespace drover {
namespace {

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

/// The first CPU of those, alone.
CpuSet first_of(const CpuSet& cpus) {
  CpuSet first{};
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    if (cpus.at(i) == 0) continue;
    first.at(i) = cpus.at(i) & -cpus.at(i);
    break;
  }
  return first;
}

}  // namespace

TEST(Schedule, IsFollowed) {
  const Waiting one;
  const auto before = schedule_of(one.pid());
  ASSERT_TRUE(before) << before.error().message();
  EXPECT_NE(before->cpus, CpuSet{});
  Schedule wanted{std::min(before->nice + 3, 19), SCHED_BATCH, first_of(before->cpus)};
  follow_schedule(one.pid(), wanted, before->cpus);
  const auto after = schedule_of(one.pid());
  ASSERT_TRUE(after);
  EXPECT_EQ(*after, wanted);
}

TEST(Schedule, OnNoneOfTheCpusThatThereAreIsOnAllOfThem) {
  const Waiting one;
  const auto before = schedule_of(one.pid());
  ASSERT_TRUE(before);
  Schedule elsewhere = *before;
  elsewhere.cpus = {};
  elsewhere.cpus.back() = 1ULL << 63;
  follow_schedule(one.pid(), elsewhere, before->cpus);
  EXPECT_EQ(*schedule_of(one.pid()), *before);
}

// Realtime is for the node to grant: the niceness is followed all the same.
TEST(Schedule, WithPrioritiesIsNotFollowed) {
  const Waiting one;
  const auto before = schedule_of(one.pid());
  ASSERT_TRUE(before);
  follow_schedule(one.pid(), {std::min(before->nice + 1, 19), SCHED_FIFO, before->cpus},
                  before->cpus);
  const auto after = schedule_of(one.pid());
  ASSERT_TRUE(after);
  EXPECT_EQ(after->policy, before->policy);
  EXPECT_EQ(after->nice, std::min(before->nice + 1, 19));
}

TEST(Schedule, OfOneThatHasEndedIsNotKnown) {
  pid_t pid = 0;
  {
    const Waiting one;
    pid = one.pid();
  }
  EXPECT_FALSE(schedule_of(pid));
  follow_schedule(pid, {}, {});  // nothing happens
}

TEST(Schedule, SaidByAPeerIsOneThatThereIs) {
  const auto read = [](std::int32_t nice) {
    return ScheduleMessage::decode(encode_record(ScheduleMessage{7, 0, {nice, SCHED_OTHER, {1}}}));
  };
  EXPECT_TRUE(read(-20));
  EXPECT_TRUE(read(19));
  EXPECT_FALSE(read(-21));
  EXPECT_FALSE(read(20));
  EXPECT_FALSE(ScheduleMessage::decode({}));
}

}  // namespace drover
