#include "common/process/interrupted_sleep.h"

#include <sys/syscall.h>

#include <cerrno>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

nanoseconds now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return std::chrono::seconds(t.tv_sec) + nanoseconds(t.tv_nsec);
}

/// clock_nanosleep(2) with the registers that a call must not change checked.
long sleep_by_hand(clockid_t clock, const timespec& length, timespec* left) {
  long result = SYS_clock_nanosleep;
  long first = clock, second = 0;
  const timespec* third = &length;
  register timespec* fourth asm("r10") = left;
  asm volatile("syscall"
               : "+a"(result), "+D"(first), "+S"(second), "+d"(third), "+r"(fourth)
               :
               : "rcx", "r11", "memory");
  const bool kept = first == clock && second == 0 && third == &length && fourth == left;
  return kept ? result : -1000;
}

/// Stops it in its sleep, and makes it go on until `until`.
void stop_and_continue(TracedChild& child, milliseconds until_in) {
  child.await_sleep();
  child.seize();
  child.interrupt();
  const auto r = child.thread().registers();
  ASSERT_TRUE(r);
  const auto sleep = interrupted_sleep(*r);
  ASSERT_TRUE(sleep) << "result " << static_cast<long>(r->rax);
  auto injection = child.returning();
  ASSERT_TRUE(injection);
  const auto rest = continue_sleep(child.pid(), *r, *sleep, now(sleep->clock) + until_in,
                                   child.memory(), *injection);
  ASSERT_TRUE(rest) << rest.error().message();
  ASSERT_TRUE(injection->end());
  ASSERT_TRUE(child.thread().set_registers(*rest));
}

}  // namespace

TEST(InterruptedSleep, EndsWhenItIsToEnd) {
  for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME}) {
    TracedChild child([&] {
      const auto start = now(CLOCK_MONOTONIC);
      const timespec length{1000, 0};
      if (sleep_by_hand(clock, length, nullptr) != 0) return 1;
      const auto took = now(CLOCK_MONOTONIC) - start;
      return took > milliseconds(50) && took < std::chrono::seconds(20) ? 0 : 2;
    });
    stop_and_continue(child, milliseconds(50));
    child.detach();
    EXPECT_EQ(child.end(), 0) << "clock " << clock;
  }
}

TEST(InterruptedSleep, TellsTheTimeLeftToWhomASignalWakes) {
  TracedChild child([] {
    signal(SIGUSR1, [](int) {});
    const timespec length{1000, 0};
    timespec left{};
    if (sleep_by_hand(CLOCK_MONOTONIC, length, &left) != -EINTR) return 1;
    return left.tv_sec >= 470 && left.tv_sec < 500 && left.tv_nsec < 1'000'000'000 ? 0 : 2;
  });
  stop_and_continue(child, milliseconds(500'000));
  child.detach();
  child.await_sleep();
  kill(child.pid(), SIGUSR1);
  EXPECT_EQ(child.end(), 0);
}

TEST(InterruptedSleep, IsStartedAgainByTheKernelAfterAnotherStop) {
  TracedChild child([] {
    const timespec length{1000, 0};
    return sleep_by_hand(CLOCK_MONOTONIC, length, nullptr) == 0 ? 0 : 1;
  });
  stop_and_continue(child, milliseconds(100));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(child.thread().resume());
    child.await_sleep();
    child.interrupt();
    const auto r = child.thread().registers();
    ASSERT_TRUE(r);
    EXPECT_FALSE(interrupted_sleep(*r));
  }
  child.detach();
  EXPECT_EQ(child.end(), 0);
}

TEST(InterruptedSleep, IsOneOfAGivenLengthByAClockOfTime) {
  Registers r{};
  r.rax = static_cast<std::uint64_t>(kErestartRestartblock);
  r.orig_rax = SYS_clock_nanosleep;
  r.rdi = CLOCK_BOOTTIME;
  EXPECT_TRUE(interrupted_sleep(r));
  r.rsi = TIMER_ABSTIME;
  EXPECT_FALSE(interrupted_sleep(r));
  r.rsi = 0;
  r.rdi = CLOCK_PROCESS_CPUTIME_ID;
  EXPECT_FALSE(interrupted_sleep(r));
  r.orig_rax = SYS_poll;
  EXPECT_FALSE(interrupted_sleep(r));
  r.orig_rax = SYS_nanosleep;
  EXPECT_TRUE(interrupted_sleep(r));
  r.rax = static_cast<std::uint64_t>(kErestartsys);
  EXPECT_FALSE(interrupted_sleep(r));
}

}  // namespace drover
