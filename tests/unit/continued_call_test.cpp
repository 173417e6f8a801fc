#include "common/process/continued_call.h"

#include <set>

#include "tests/unit/traced_child.h"

namespace drover {

// Those that were made without CLONE_SETTLS have one thread-local storage in common.
TEST(ContinuedCall, OfEveryThreadHasAPageThatIsItsOwn) {
  constexpr pid_t kThreads = 200;
  constexpr std::uint64_t kStack = 4096;
  TracedChild child([] { return pause(); });
  child.await_sleep();
  child.seize();
  child.interrupt();
  auto registers = child.thread().registers();
  ASSERT_TRUE(registers);
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  std::set<std::uint64_t> pages;
  for (pid_t tid = 1; tid <= kThreads; ++tid) {
    registers->rsp += kStack;
    const auto page = continuation_page(tid, *registers, child.memory(), *injection);
    ASSERT_TRUE(page) << page.error().message();
    EXPECT_TRUE(pages.insert(page->start.value()).second) << "of thread " << tid;
  }
  // That of a thread's call with the same stack pointer is over.
  const auto again = continuation_page(kThreads, *registers, child.memory(), *injection);
  ASSERT_TRUE(again);
  EXPECT_TRUE(pages.contains(again->start.value()));
}

}  // namespace drover
