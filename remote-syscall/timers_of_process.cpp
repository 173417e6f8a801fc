#include "remote-syscall/timers_of_process.h"

#include <csignal>
#include <cstdio>
#include <string>

#include "common/process/memory_map.h"

namespace drover {
namespace {

/// "signal/pid.2634": how, and what the number names.
bool parse_notify(const std::string& line, ListedTimer& timer) {
  char how[16];
  char what[8];
  int number = 0;
  if (std::sscanf(line.c_str(), "notify: %15[a-z]/%7[a-z].%d", how, what, &number) != 3) {
    return false;
  }
  const std::string_view kind(how);
  timer.notify = kind == "none" ? SIGEV_NONE : kind == "thread" ? SIGEV_THREAD : SIGEV_SIGNAL;
  if (std::string_view(what) == "tid") {
    timer.notify |= SIGEV_THREAD_ID;
    timer.target = number;
  }
  return true;
}

}  // namespace

Result<std::vector<ListedTimer>> parse_timers(std::string_view text) {
  std::vector<ListedTimer> timers;
  while (!text.empty()) {
    const std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    int number = 0;
    if (std::sscanf(line.c_str(), "ID: %d", &number) == 1) {
      timers.push_back({number, 0, 0, 0, 0});
      continue;
    }
    if (timers.empty()) return refusal("the list of timers begins with none");
    ListedTimer& timer = timers.back();
    if (std::sscanf(line.c_str(), "signal: %d", &number) == 1) timer.signal = number;
    if (std::sscanf(line.c_str(), "ClockID: %d", &number) == 1) timer.clock = number;
    if (line.starts_with("notify:") && !parse_notify(line, timer)) {
      return refusal("the list of timers is not as expected: " + line);
    }
  }
  return timers;
}

Result<std::vector<ListedTimer>> timers_of(pid_t pid) {
  const auto text = read_proc_file("/proc/" + std::to_string(pid) + "/timers");
  if (!text && text.error().code == ENOENT) return std::vector<ListedTimer>();
  if (!text) return text.error();
  return parse_timers(*text);
}

}  // namespace drover
