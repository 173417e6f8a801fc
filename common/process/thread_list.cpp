#include "common/process/thread_list.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string>

namespace drover {

Result<std::vector<pid_t>> threads_of(pid_t pid) {
  std::vector<pid_t> tids;
  std::error_code error;
  const std::string directory = "/proc/" + std::to_string(pid) + "/task";
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    pid_t tid = 0;
    const auto [rest, problem] = std::from_chars(name.data(), name.data() + name.size(), tid);
    if (problem == std::errc() && *rest == '\0') tids.push_back(tid);
  }
  if (error) return Error{error.value(), "list the threads of process " + std::to_string(pid)};
  const auto leader = std::find(tids.begin(), tids.end(), pid);
  if (leader == tids.end()) return Error{ESRCH, "process " + std::to_string(pid)};
  std::iter_swap(tids.begin(), leader);
  return tids;
}

}  // namespace drover
