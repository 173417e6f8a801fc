// The CPU time of other processes and of their threads, and alarms on it (clock_getcpuclockid(3)).
#pragma once

#include <sys/types.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <optional>

#include "common/result.h"

namespace drover {

/// What a process or a thread has used, in nanoseconds.
struct CpuTime {
  std::uint64_t runtime = 0;  ///< exactly
  std::uint64_t user = 0;     ///< as most kernels count it, in whole ticks; so not what is left
  std::uint64_t system = 0;   ///< of `runtime` after this

  CpuTime& operator+=(const CpuTime& other);
  bool operator==(const CpuTime&) const = default;
};
CpuTime operator+(CpuTime a, const CpuTime& b);
/// Field by field, and never below 0.
CpuTime operator-(const CpuTime& a, const CpuTime& b);
/// Field by field the larger.
CpuTime later(const CpuTime& a, const CpuTime& b);

/// The clocks that each process and each thread has, as the kernel numbers them
/// (include/linux/posix-timers.h).
enum class CpuClock : std::uint8_t {
  kProf,     ///< user and system time
  kVirtual,  ///< user time
  kRuntime,  ///< the one of CLOCK_PROCESS_CPUTIME_ID
};
inline constexpr std::array kCpuClocks{CpuClock::kProf, CpuClock::kVirtual, CpuClock::kRuntime};

/// What the clock shows for one that has used so much.
std::uint64_t reading(const CpuTime& used, CpuClock clock);

/// The clock of a process, 0 for the caller's own.
clockid_t process_cpu_clock(pid_t pid, CpuClock clock);

/// How long the kernel lets pass between two looks at CPU timers, in nanoseconds.
std::uint64_t cpu_tick();

/// What all threads of the process have used, also those that have ended.
Result<CpuTime> cpu_time_of_process(pid_t pid);
/// What one of its threads has used: what it has since it was last put on a CPU may be missing.
Result<CpuTime> cpu_time_of_thread(pid_t pid, pid_t tid);

/// Alarms on the CPU clocks of another process: when one shows what it was set to, we get a signal.
/// To be blocked and read (signalfd(2)).
class CpuAlarm {
 public:
  static int signal() { return SIGRTMIN + 1; }

  explicit CpuAlarm(pid_t pid) : pid_(pid) {}
  CpuAlarm(const CpuAlarm&) = delete;
  CpuAlarm& operator=(const CpuAlarm&) = delete;
  ~CpuAlarm();

  /// Nothing: no alarm on this clock. One that is reached already comes at once; of a process that
  /// has ended none comes.
  Status set(CpuClock clock, std::optional<std::uint64_t> at_ns);

 private:
  pid_t pid_;
  std::array<std::optional<timer_t>, kCpuClocks.size()> timers_;
  std::array<std::optional<std::uint64_t>, kCpuClocks.size()> set_;
};

}  // namespace drover
