#include "migrate/waiting_image.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "migrate/spawn_cgroup.h"
#include "remote-syscall/body_messages.h"

namespace drover {
namespace {

/// What a file says in its first word; nothing if there is no such file, or no number in it.
std::optional<std::uint64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

std::uint64_t available_in_machine() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  for (std::uint64_t kilobytes = 0; file >> key; file.ignore(INT16_MAX, '\n'))
    if (key == "MemAvailable:" && file >> kilobytes) return kilobytes << 10;
  return 0;
}

}  // namespace

bool WaitingImage::put(Frame& frame) {
  if (!is_of_the_image(frame) || frame.payload.size() > room_) return false;
  room_ -= frame.payload.size();
  frames_.push_back(std::move(frame));
  return true;
}

std::optional<Frame> WaitingImage::next() {
  if (frames_.empty()) return std::nullopt;
  Frame frame = std::move(frames_.front());
  frames_.pop_front();
  return frame;
}

bool is_of_the_image(const Frame& frame) {
  const auto type = static_cast<FrameType>(frame.type);
  return type == FrameType::kLayout || type == FrameType::kPages || type == FrameType::kState;
}

std::uint64_t free_memory() {
  std::uint64_t free = available_in_machine();
  const auto groups = cgroups_of(getpid());
  if (!groups) return free;
  for (const CgroupDirectory& group : *groups) free = std::min(free, free_in_cgroup(group.path));
  return free;
}

std::uint64_t free_in_cgroup(const std::string& directory) {
  std::uint64_t free = UINT64_MAX;
  for (std::filesystem::path at = directory; at.has_relative_path(); at = at.parent_path()) {
    auto used = number_in(at / "memory.current");
    auto limit = number_in(at / "memory.max");  // "max" is none
    if (!used) {
      used = number_in(at / "memory.usage_in_bytes");
      limit = number_in(at / "memory.limit_in_bytes");
    }
    if (used && limit) free = std::min(free, *limit - std::min(*limit, *used));
  }
  return free;
}

}  // namespace drover
