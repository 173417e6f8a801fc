#include "common/process/timed_wait.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <cerrno>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kWhole{100'000};

/// Waits in the child, stops it there, and lets it wait again as if it had waited for `so_far`.
template <class Wait>
void expect_rest_of(Wait wait, milliseconds so_far, int times = 1) {
  TracedChild child([&] {
    const auto start = Clock::now();
    if (!wait()) return 1;
    const auto took = Clock::now() - start;
    return took >= milliseconds(40) && took < milliseconds(20'000) ? 0 : 2;
  });
  child.await_sleep();
  child.seize();
  for (int i = 0; i < times; ++i) {
    child.interrupt();
    auto r = child.thread().registers();
    ASSERT_TRUE(r);
    // However the kernel would go on: it is made again.
    r->rax = static_cast<std::uint64_t>(kErestartnointr);
    ASSERT_TRUE(is_timed_wait(*r)) << "call " << static_cast<long>(r->orig_rax);
    auto injection = child.returning();
    ASSERT_TRUE(injection);
    const auto rest = continue_timed_wait(child.pid(), *r, so_far, Clock::now().time_since_epoch(),
                                          child.memory(), *injection);
    ASSERT_TRUE(rest) << rest.error().message();
    ASSERT_TRUE(injection->end());
    ASSERT_TRUE(child.thread().set_registers(*rest));
    if (i + 1 == times) break;
    ASSERT_TRUE(child.thread().resume());
    child.await_sleep();
  }
  child.detach();
  EXPECT_EQ(child.end(), 0);
}

/// poll(2) with the registers that a call must not change checked.
bool poll_by_hand() {
  long result = SYS_poll, first = 0, second = 0, third = kWhole.count();
  asm volatile("syscall"
               : "+a"(result), "+D"(first), "+S"(second), "+d"(third)
               :
               : "rcx", "r11", "memory");
  return result == 0 && first == 0 && second == 0 && third == kWhole.count();
}

}  // namespace

TEST(TimedWait, LastsForTheRestOfItsTime) {
  expect_rest_of(poll_by_hand, kWhole - milliseconds(60));
}

TEST(TimedWait, HoweverOftenItIsStopped) {
  expect_rest_of(poll_by_hand, kWhole - milliseconds(100), 5);
}

TEST(TimedWait, OfEpoll) {
  expect_rest_of(
      [] {
        epoll_event event;
        return epoll_wait(epoll_create1(0), &event, 1, static_cast<int>(kWhole.count())) == 0;
      },
      kWhole - milliseconds(60));
}

TEST(TimedWait, OfSignals) {
  expect_rest_of(
      [] {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, nullptr);
        const timespec limit{kWhole.count() / 1000, 0};
        return sigtimedwait(&set, nullptr, &limit) == -1 && errno == EAGAIN;
      },
      kWhole - milliseconds(60), 2);
}

TEST(TimedWait, IsOneThatEndsAndIsMadeAgain) {
  Registers r{};
  r.orig_rax = SYS_poll;
  r.rax = static_cast<std::uint64_t>(kErestartnointr);
  r.rdx = 1;
  EXPECT_TRUE(is_timed_wait(r));
  r.rdx = 0xffffffff;  // for ever
  EXPECT_FALSE(is_timed_wait(r));
  r.rdx = 0;
  EXPECT_FALSE(is_timed_wait(r));
  r.rdx = 1;
  r.rax = 1;
  EXPECT_FALSE(is_timed_wait(r));
  r.rax = static_cast<std::uint64_t>(kErestartnointr);
  r.orig_rax = SYS_read;
  EXPECT_FALSE(is_timed_wait(r));
  r.orig_rax = SYS_rt_sigtimedwait;
  r.rdx = 0;  // for ever
  EXPECT_FALSE(is_timed_wait(r));
}

}  // namespace drover
