#include "common/process/cpu_time.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "common/owned_fd.h"

using namespace drover;

namespace {

constexpr std::uint64_t kMs = 1'000'000;

/// A child that burns CPU time until it is killed.
class Burner {
 public:
  Burner() : pid_(fork()) {
    if (pid_ != 0) return;
    for (;;) {
    }
  }
  Burner(const Burner&) = delete;
  Burner& operator=(const Burner&) = delete;
  ~Burner() { end(); }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

std::uint64_t own_clock(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

void burn_until(clockid_t id, std::uint64_t ns) {
  while (own_clock(id) < ns) {
  }
}

}  // namespace

TEST(CpuTime, TheClockOfAProcessIsTheKernels) {
  clockid_t id{};
  ASSERT_EQ(clock_getcpuclockid(getpid(), &id), 0);
  EXPECT_EQ(process_cpu_clock(getpid(), CpuClock::kRuntime), id);
}

TEST(CpuTime, OfAProcessIsWhatItsClockShows) {
  burn_until(CLOCK_PROCESS_CPUTIME_ID, own_clock(CLOCK_PROCESS_CPUTIME_ID) + 30 * kMs);
  const std::uint64_t before = own_clock(CLOCK_PROCESS_CPUTIME_ID);
  const auto used = cpu_time_of_process(getpid());
  const std::uint64_t after = own_clock(CLOCK_PROCESS_CPUTIME_ID);
  ASSERT_TRUE(used);
  EXPECT_GE(used->runtime, before);
  EXPECT_LE(used->runtime, after);
  EXPECT_EQ(reading(*used, CpuClock::kRuntime), used->runtime);
  EXPECT_EQ(reading(*used, CpuClock::kProf), used->user + used->system);
  EXPECT_EQ(reading(*used, CpuClock::kVirtual), used->user);
}

TEST(CpuTime, OfAThreadThatSleepsIsExact) {
  std::atomic<pid_t> tid = 0;
  std::atomic<std::uint64_t> its_own = 0;
  std::atomic<bool> over = false;
  std::thread other([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    burn_until(CLOCK_THREAD_CPUTIME_ID, 20 * kMs);
    its_own = own_clock(CLOCK_THREAD_CPUTIME_ID);
    over.wait(false);
  });
  while (its_own == 0) usleep(1000);
  Result<CpuTime> used = cpu_time_of_thread(getpid(), tid);
  // Until it has gone to sleep.
  for (std::uint64_t last = 0; used && used->runtime != last; usleep(20'000)) {
    last = used->runtime;
    used = cpu_time_of_thread(getpid(), tid);
  }
  over = true;
  over.notify_all();
  other.join();
  ASSERT_TRUE(used);
  EXPECT_GE(used->runtime, its_own);
  EXPECT_LT(used->runtime, its_own + 10 * kMs);
  EXPECT_FALSE(cpu_time_of_thread(getpid(), tid)) << "it has ended";
}

TEST(CpuTime, IsCountedFieldByField) {
  const CpuTime a{10, 6, 3}, b{4, 8, 1};
  EXPECT_EQ(a + b, (CpuTime{14, 14, 4}));
  EXPECT_EQ(a - b, (CpuTime{6, 0, 2})) << "never below 0";
  EXPECT_EQ(later(a, b), (CpuTime{10, 8, 3}));
}

TEST(CpuTime, ATickIsAboutAsLongAsKernelsMakeIt) {
  EXPECT_GE(cpu_tick(), 1 * kMs - 1000);
  EXPECT_LE(cpu_tick(), 10 * kMs + 1000);
}

class CpuAlarms : public ::testing::Test {
 protected:
  void SetUp() override {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, CpuAlarm::signal());
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    set_ = set;
  }
  /// The clock that has rung, or nothing within the time.
  std::optional<int> await(time_t seconds) {
    const timespec patience{seconds, 0};
    siginfo_t info{};
    const int got = sigtimedwait(&set_, &info, &patience);
    return got == CpuAlarm::signal() ? std::optional(info.si_code) : std::nullopt;
  }

  sigset_t set_{};
};

TEST_F(CpuAlarms, RingWhenAnotherProcessHasUsedSoMuch) {
  for (const CpuClock clock : kCpuClocks) {
    const Burner other;
    CpuAlarm alarm(other.pid());
    ASSERT_TRUE(alarm.set(clock, 20 * kMs));
    ASSERT_TRUE(await(30));
    const auto used = cpu_time_of_process(other.pid());
    ASSERT_TRUE(used);
    EXPECT_GE(reading(*used, clock), 20 * kMs);
    ASSERT_TRUE(alarm.set(clock, 1)) << "reached already";
    EXPECT_TRUE(await(30));
  }
}

TEST_F(CpuAlarms, ThatAreTakenBackDoNotRing) {
  const Burner other;
  CpuAlarm alarm(other.pid());
  ASSERT_TRUE(alarm.set(CpuClock::kRuntime, std::nullopt)) << "none was set";
  ASSERT_TRUE(alarm.set(CpuClock::kRuntime, 20 * kMs));
  ASSERT_TRUE(alarm.set(CpuClock::kRuntime, std::nullopt));
  ASSERT_TRUE(alarm.set(CpuClock::kVirtual, 60 * kMs));
  ASSERT_TRUE(await(30));
  EXPECT_FALSE(await(0)) << "there was one";
}

TEST_F(CpuAlarms, OnAProcessThatHasEndedNeverRing) {
  Burner other;
  CpuAlarm alarm(other.pid());
  ASSERT_TRUE(alarm.set(CpuClock::kRuntime, 3600'000 * kMs));
  CpuAlarm late(other.pid());
  other.end();
  EXPECT_TRUE(alarm.set(CpuClock::kRuntime, 1));
  EXPECT_TRUE(late.set(CpuClock::kRuntime, 1));
  EXPECT_FALSE(await(0));
}
