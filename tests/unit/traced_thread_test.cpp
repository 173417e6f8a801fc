#include "common/process/traced_thread.h"

#include <memory>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

std::unique_ptr<TracedChild> sleeper() {
  auto child = std::make_unique<TracedChild>([] {
    for (;;) pause();
    return 0;
  });
  child->await_sleep();
  child->seize();
  return child;
}

}  // namespace

TEST(TracedThread, AWaitForOneLeavesTheWordThatAnotherOneHasStopped) {
  sigset_t child_signal, before;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &child_signal, &before);
  const auto one = sleeper();
  const auto other = sleeper();
  ASSERT_TRUE(other->thread().interrupt());
  const auto nothing = one->thread().wait_within(std::chrono::milliseconds(100));
  EXPECT_TRUE(nothing && !*nothing);
  const timespec at_once{};
  EXPECT_EQ(sigtimedwait(&child_signal, nullptr, &at_once), SIGCHLD);
  const auto stopped = other->thread().poll();
  EXPECT_TRUE(stopped && *stopped);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace drover
