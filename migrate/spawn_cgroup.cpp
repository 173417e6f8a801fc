#include "migrate/spawn_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <fstream>
#include <sstream>

#include "common/owned_fd.h"

namespace drover {
namespace {

constexpr char kGuestsDirectory[] = "drover-guests";
// A tenth of a process of the node itself (100 in version 2, 1024 in version 1).
constexpr char kGuestWeight[] = "10";
constexpr char kGuestShares[] = "102";

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Status write_text(const std::string& path, std::string_view text) {
  OwnedFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) < 0) return errno_error(path);
  return {};
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

struct CgroupMount {
  std::string root;
  std::string point;
  bool unified = false;
  std::vector<std::string> options;
};

/// A line of proc_pid_mountinfo(5): "36 35 98:0 ROOT POINT opts optional... - TYPE SOURCE OPTS".
bool parse_mount(const std::string& line, CgroupMount& mount) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string::npos) return false;
  const auto before = split(std::string_view(line).substr(0, dash), ' ');
  const auto after = split(std::string_view(line).substr(dash + 3), ' ');
  if (before.size() < 5 || after.size() < 3) return false;
  mount = {before[3], before[4], after[0] == "cgroup2", split(after[2], ',')};
  return after[0] == "cgroup" || after[0] == "cgroup2";
}

bool carries(const CgroupMount& mount, const std::string& controllers) {
  if (controllers.empty() || mount.unified) return controllers.empty() && mount.unified;
  return std::ranges::all_of(split(controllers, ','), [&](const std::string& name) {
    return std::ranges::find(mount.options, name) != mount.options.end();
  });
}

void kill_members(const std::string& directory) {
  if (write_text(directory + "/cgroup.kill", "1")) return;  // version 2, from Linux 5.14
  std::istringstream members(read_text(directory + "/cgroup.procs"));
  for (pid_t pid = 0; members >> pid;)
    if (pid > 0) ::kill(pid, SIGKILL);
}

}  // namespace

Result<std::vector<CgroupDirectory>> cgroups_of(pid_t pid) {
  const std::string text = read_text("/proc/" + std::to_string(pid) + "/cgroup");
  if (text.empty()) return Error{ESRCH, "cgroups of process " + std::to_string(pid)};
  return parse_cgroups(text, read_text("/proc/self/mountinfo"));
}

std::vector<CgroupDirectory> parse_cgroups(std::string_view cgroup, std::string_view mountinfo) {
  std::vector<CgroupMount> mounts;
  for (const std::string& line : split(mountinfo, '\n'))
    if (CgroupMount mount; parse_mount(line, mount)) mounts.push_back(std::move(mount));

  std::vector<CgroupDirectory> found;
  for (const std::string& line : split(cgroup, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const auto mount =
        std::ranges::find_if(mounts, [&](const CgroupMount& m) { return carries(m, controllers); });
    if (mount == mounts.end()) continue;
    if (mount->root != "/") {
      if (!path.starts_with(mount->root)) continue;
      path.erase(0, mount->root.size());
    }
    if (path.starts_with("/..")) continue;  // outside our cgroup namespace
    found.push_back({controllers, path == "/" ? mount->point : mount->point + path});
  }
  return found;
}

GuestCgroup GuestCgroup::make(const std::string& name) {
  GuestCgroup group;
  const auto own = cgroups_of(::getpid());
  if (!own) {
    group.shortfall_ = own.error().message();
    return group;
  }
  bool weighted = false;
  for (const CgroupDirectory& directory : *own) {
    const auto controllers = split(directory.controllers, ',');
    const bool cpu = std::ranges::find(controllers, "cpu") != controllers.end();
    if (!cpu && !directory.unified()) continue;
    const Status made = group.make_in(directory, name);
    if (made)
      weighted = true;
    else if (!weighted)
      group.shortfall_ = made.error().message();
  }
  if (weighted)
    group.shortfall_.clear();
  else if (group.shortfall_.empty())
    group.shortfall_ = "no cpu controller is mounted";
  return group;
}

GuestCgroup GuestCgroup::made_before(std::vector<std::string> directories) {
  GuestCgroup group;
  group.directories_ = std::move(directories);
  return group;
}

bool GuestCgroup::remove() {
  std::erase_if(directories_, [](const std::string& directory) {
    kill_members(directory);
    return ::rmdir(directory.c_str()) == 0 || errno == ENOENT;
  });
  return directories_.empty();
}

std::string GuestCgroup::remains() const {
  std::string words;
  for (const std::string& directory : directories_) {
    std::istringstream members(read_text(directory + "/cgroup.procs"));
    words += (words.empty() ? "" : ", ") + directory;
    for (std::string pid; members >> pid;) words += " process " + pid;
  }
  return words;
}

std::vector<std::string> GuestCgroup::join_files() const {
  std::vector<std::string> files;
  for (const std::string& directory : directories_) files.push_back(directory + "/cgroup.procs");
  return files;
}

/// Makes the group in one hierarchy and gives it its weight.
Status GuestCgroup::make_in(const CgroupDirectory& own, const std::string& name) {
  const std::string guests = own.path + "/" + kGuestsDirectory;
  if (::mkdir(guests.c_str(), 0755) < 0 && errno != EEXIST) return errno_error(guests);
  const std::string directory = guests + "/" + name;
  if (::mkdir(directory.c_str(), 0755) < 0 && errno != EEXIST) return errno_error(directory);
  directories_.push_back(directory);
  if (!own.unified()) return write_text(directory + "/cpu.shares", kGuestShares);
  // The controller has to be handed down; a group that has processes of its own and is not
  // the root may not do it (cgroups(7), "no internal processes").
  if (Status handed = write_text(own.path + "/cgroup.subtree_control", "+cpu"); !handed)
    return handed;
  DROVER_CHECK(write_text(guests + "/cgroup.subtree_control", "+cpu"));
  return write_text(directory + "/cpu.weight", kGuestWeight);
}

}  // namespace drover
