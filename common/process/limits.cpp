#include "common/process/limits.h"

#include "common/process/memory_map.h"

namespace drover {

std::optional<std::string> soft_limit_of(pid_t pid, std::string_view name) {
  const auto limits = read_proc_file("/proc/" + std::to_string(pid) + "/limits");
  const auto row = limits ? limits->find("\n" + std::string(name) + " ") : std::string::npos;
  if (row == std::string::npos) return std::nullopt;
  const auto value = limits->find_first_not_of(' ', row + 1 + name.size());
  if (value == std::string::npos) return std::nullopt;
  return limits->substr(value, limits->find(' ', value) - value);
}

}  // namespace drover
