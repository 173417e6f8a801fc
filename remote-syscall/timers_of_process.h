// The timers that a process has made by timer_create(2), as /proc/PID/timers lists them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace drover {

struct ListedTimer {
  int id = 0;
  int signal = 0;
  int notify = 0;           ///< SIGEV_SIGNAL and so on
  std::int32_t target = 0;  ///< the thread of SIGEV_THREAD_ID
  clockid_t clock = 0;

  bool operator==(const ListedTimer&) const = default;
};

/// Those in the contents of the file (proc(5)).
Result<std::vector<ListedTimer>> parse_timers(std::string_view text);
/// None where the kernel does not list them.
Result<std::vector<ListedTimer>> timers_of(pid_t pid);

}  // namespace drover
