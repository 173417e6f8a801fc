#include "common/process/cpu_time.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "common/process/memory_map.h"

namespace drover {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t in_ns(const timespec& t) {
  return static_cast<std::uint64_t>(t.tv_sec) * kSecond + static_cast<std::uint64_t>(t.tv_nsec);
}

std::uint64_t difference(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

Result<std::uint64_t> read_clock_of(pid_t pid, CpuClock clock) {
  timespec t{};
  if (clock_gettime(process_cpu_clock(pid, clock), &t) != 0) {
    return errno_error("read the CPU clock of process " + std::to_string(pid));
  }
  return in_ns(t);
}

/// Fields 14 and 15 of its stat (proc(5)).
Result<CpuTime> read_ticks(const std::string& directory) {
  static const auto ticks_per_second = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  DROVER_TRY(const std::string stat, read_proc_file(directory + "stat"));
  const auto name_end = stat.rfind(')');
  unsigned long user = 0;
  unsigned long system = 0;
  if (name_end == std::string::npos ||
      std::sscanf(stat.c_str() + name_end + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
    return refusal("the stat of a thread is not as expected");
  }
  CpuTime used;
  used.user = user * (kSecond / ticks_per_second);
  used.system = system * (kSecond / ticks_per_second);
  return used;
}

}  // namespace

CpuTime& CpuTime::operator+=(const CpuTime& other) {
  runtime += other.runtime;
  user += other.user;
  system += other.system;
  return *this;
}

CpuTime operator+(CpuTime a, const CpuTime& b) { return a += b; }

CpuTime operator-(const CpuTime& a, const CpuTime& b) {
  return {difference(a.runtime, b.runtime), difference(a.user, b.user),
          difference(a.system, b.system)};
}

CpuTime later(const CpuTime& a, const CpuTime& b) {
  return {std::max(a.runtime, b.runtime), std::max(a.user, b.user), std::max(a.system, b.system)};
}

std::uint64_t reading(const CpuTime& used, CpuClock clock) {
  switch (clock) {
    case CpuClock::kProf:
      return used.user + used.system;
    case CpuClock::kVirtual:
      return used.user;
    case CpuClock::kRuntime:
      return used.runtime;
  }
  return 0;
}

clockid_t process_cpu_clock(pid_t pid, CpuClock clock) {
  return static_cast<clockid_t>(~static_cast<unsigned>(pid) << 3 | static_cast<unsigned>(clock));
}

std::uint64_t cpu_tick() {
  static const std::uint64_t tick = [] {
    timespec resolution{0, 4'000'000};
    clock_getres(process_cpu_clock(0, CpuClock::kProf), &resolution);
    return in_ns(resolution);
  }();
  return tick;
}

Result<CpuTime> cpu_time_of_process(pid_t pid) {
  CpuTime used;
  DROVER_TRY(used.runtime, read_clock_of(pid, CpuClock::kRuntime));
  DROVER_TRY(used.user, read_clock_of(pid, CpuClock::kVirtual));
  DROVER_TRY(const std::uint64_t both, read_clock_of(pid, CpuClock::kProf));
  used.system = difference(both, used.user);
  return used;
}

Result<CpuTime> cpu_time_of_thread(pid_t pid, pid_t tid) {
  const std::string directory =
      "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/";
  DROVER_TRY(CpuTime used, read_ticks(directory));
  const auto exact = read_proc_file(directory + "schedstat");
  unsigned long runtime = 0;
  const bool known = exact && std::sscanf(exact->c_str(), "%lu", &runtime) == 1 && runtime != 0;
  used.runtime = known ? runtime : used.user + used.system;
  return used;
}

CpuAlarm::~CpuAlarm() {
  for (const auto& timer : timers_) {
    if (timer) timer_delete(*timer);
  }
}

Status CpuAlarm::set(CpuClock clock, std::optional<std::uint64_t> at_ns) {
  const auto index = static_cast<std::size_t>(clock);
  auto& timer = timers_.at(index);
  auto& set = set_.at(index);
  if (!at_ns && !set) return {};
  if (!timer) {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = signal();
    timer_t made{};
    if (timer_create(process_cpu_clock(pid_, clock), &event, &made) != 0) {
      // Of one that has ended.
      return errno == EINVAL ? Status{} : Status(errno_error("make a CPU alarm"));
    }
    timer = made;
  }
  set = at_ns;
  const std::uint64_t at = at_ns ? std::max<std::uint64_t>(*at_ns, 1) : 0;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(at / kSecond);
  when.it_value.tv_nsec = static_cast<long>(at % kSecond);
  if (timer_settime(*timer, TIMER_ABSTIME, &when, nullptr) != 0 && errno != ESRCH) {
    return errno_error("set a CPU alarm");
  }
  return {};
}

}  // namespace drover
