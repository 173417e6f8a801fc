#include "migrate/body_lease.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace drover {
namespace {

using namespace std::chrono_literals;
using Clock = BodyLease::Clock;

class BodyLeaseTest : public ::testing::Test {
 protected:
  BodyLeaseTest() { lease.begin(start); }

  const Clock::time_point start = Clock::now();
  BodyLease lease;
};

TEST_F(BodyLeaseTest, BeginsBeforeHomeHasSaidAWord) {
  lease.grant(60s);
  EXPECT_EQ(lease.end(), start + kLease);
  EXPECT_TRUE(lease.check(start + kLease - 1ms));
  EXPECT_FALSE(lease.check(start + kLease));
}

TEST_F(BodyLeaseTest, IsAsLongAsHomeGrantsFromItsFirstWordOn) {
  lease.grant(60s);
  lease.heard_out(start + 1s);
  EXPECT_TRUE(lease.hear());
  EXPECT_EQ(lease.end(), start + 61s);
  EXPECT_FALSE(lease.hear());
}

TEST_F(BodyLeaseTest, IsNeverShorterThanTheShortestNorLongerThanTheLongest) {
  lease.grant(1s);
  lease.hear();
  EXPECT_EQ(lease.length(), kLease);
  lease.grant(100h);
  lease.hear();
  EXPECT_EQ(lease.length(), kLongestLease);
}

TEST_F(BodyLeaseTest, AWordThatCameWhileTheGuestListenedCountsFromThen) {
  lease.heard_out(start + 1s);
  lease.listened(900ms);
  lease.hear();
  EXPECT_EQ(lease.end(), start + 1900ms + kLease);
}

TEST_F(BodyLeaseTest, AWordThatWaitedForABusyGuestCountsFromWhenItMayHaveCome) {
  lease.heard_out(start + 1s);
  // 20 s of something else, after which the word is there.
  lease.hear();
  EXPECT_EQ(lease.end(), start + 1s + kLease);
  lease.heard_out(start + 21s);
  lease.hear();
  EXPECT_EQ(lease.end(), start + 21s + kLease);
}

TEST_F(BodyLeaseTest, AWordNeverShortensIt) {
  lease.heard_out(start + 5s);
  lease.hear();
  lease.stands_still(start + 30s);
  lease.hear();  // had waited since
  EXPECT_EQ(lease.end(), start + 30s + kLease);
}

/// How a child ends whose alarm is set to `lease_end`, stopped again if `stops`, and which then
/// hangs for a second and a half.
int end_of_child(Clock::duration lease_left, bool stops) {
  const pid_t child = fork();
  if (child == 0) {
    LeaseAlarm alarm;
    alarm.set(Clock::now() + lease_left);
    if (stops) alarm.stop();
    usleep(1'500'000);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(LeaseAlarmTest, KillsAGuestThatIsHeldUpPastItsLease) {
  EXPECT_EQ(end_of_child(0s, false), SIGALRM);
  EXPECT_EQ(end_of_child(-10s, false), SIGALRM);
}

TEST(LeaseAlarmTest, DoesNotWhenTheBodyDoesNotRun) { EXPECT_EQ(end_of_child(0s, true), 0); }

TEST(LeaseAlarmTest, ALeaseThatBeginsAnewPutsItOff) {
  const pid_t child = fork();
  if (child == 0) {
    LeaseAlarm alarm;
    alarm.set(Clock::now());
    alarm.set(Clock::now() + 10s);
    usleep(1'500'000);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
}

}  // namespace
}  // namespace drover
