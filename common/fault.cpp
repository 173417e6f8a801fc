#include "common/fault.h"

#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>

#include "common/log.h"

namespace drover {
namespace {

std::map<std::string, std::string, std::less<>> parse(const char* text) {
  std::map<std::string, std::string, std::less<>> faults;
  std::string_view rest = text ? text : "";
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const auto colon = item.find(':');
    if (colon == std::string_view::npos) continue;
    faults.emplace(item.substr(0, colon), item.substr(colon + 1));
  }
  return faults;
}

}  // namespace

Status fault_point(FaultPoint point) {
  static const auto faults = parse(std::getenv("DROVER_FAULT"));
  const auto it = faults.find(point.name());
  if (it == faults.end()) return {};
  const std::string& action = it->second;
  log_warn("fault point {}: {}", point.name(), action);
  if (action == "kill") raise(SIGKILL);
  if (action.starts_with("delay=")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(action.c_str() + 6)));
    return {};
  }
  return refusal("made to fail at " + std::string(point.name()));
}

}  // namespace drover
