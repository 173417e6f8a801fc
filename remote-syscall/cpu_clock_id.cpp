#include "remote-syscall/cpu_clock_id.h"

namespace drover {

// The complement of an id of a process or thread, a bit that says which, and two bits of which
// clock; of these 3 is a clock device's descriptor (include/linux/posix-timers_types.h).
std::optional<CpuClockId> own_cpu_clock(clockid_t id, std::int32_t pid, std::int32_t caller) {
  constexpr int kWhich = 3;
  constexpr int kPerThread = 4;
  if (id == CLOCK_PROCESS_CPUTIME_ID) return CpuClockId{CpuClock::kRuntime, 0};
  if (id == CLOCK_THREAD_CPUTIME_ID) return CpuClockId{CpuClock::kRuntime, caller};
  if (id >= 0 || (id & kWhich) == kWhich) return std::nullopt;
  const auto clock = static_cast<CpuClock>(id & kWhich);
  const std::int32_t whose = ~(id >> 3);
  if ((id & kPerThread) != 0) return CpuClockId{clock, whose == 0 ? caller : whose};
  // A thread's id means its process, if it is the caller's own (pid_for_clock in
  // kernel/time/posix-cpu-timers.c).
  if (whose != 0 && whose != pid && whose != caller) return std::nullopt;
  return CpuClockId{clock, 0};
}

}  // namespace drover
