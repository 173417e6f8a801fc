#include "tools/moslab/cgroups.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "common/owned_fd.h"

namespace drover::moslab {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kProcs[] = "cgroup.procs";
constexpr char kSubtreeControl[] = "cgroup.subtree_control";
constexpr char kKill[] = "cgroup.kill";
constexpr char kFreezerState[] = "freezer.state";
constexpr char kQuotaV1[] = "cpu.cfs_quota_us";
constexpr char kPeriodV1[] = "cpu.cfs_period_us";
constexpr char kQuotaV2[] = "cpu.max";
constexpr char kSystemGroup[] = "system";
constexpr char kControlGroup[] = "ctl";
constexpr int kPeriodMicroseconds = 100000;  // the kernel's own default
constexpr milliseconds kKillPatience{10000};
constexpr milliseconds kRemovePatience{5000};

const std::set<std::string> kWanted = {"cpu", "cpuacct", "memory", "freezer", "pids"};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// The v1 controllers among a mount's options that the kernel knows, in the kernel's order, when
/// one of them is of use to a node.
std::string wanted_controllers(const std::string& super_options) {
  static const std::set<std::string> known = {
      "cpu",   "cpuacct", "memory",   "freezer", "pids",    "cpuset", "devices",
      "blkio", "net_cls", "net_prio", "rdma",    "hugetlb", "misc",   "perf_event"};
  std::string all;
  bool useful = false;
  for (const std::string& option : split(super_options, ',')) {
    if (!known.count(option)) continue;
    all += (all.empty() ? "" : ",") + option;
    useful = useful || kWanted.count(option);
  }
  return useful ? all : "";
}

/// The path of the reader in the hierarchy with these controllers ("" for v2).
std::string own_path(const std::string& own, const std::string& controllers) {
  for (const std::string& line : split(own, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (std::set<std::string>{names} == std::set<std::string>{controllers})
      return line.substr(second + 1);
  }
  return "/";
}

Status write_file(const std::string& path, const std::string& text) {
  OwnedFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || write(fd.get(), text.data(), text.size()) < 0) return errno_error("write " + path);
  return {};
}

Status make_dir(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0) return errno_error("mkdir " + path);
  return {};
}

/// Hands the controllers on to the children of a v2 group, as far as the group has them.
void delegate(const std::string& dir) {
  for (const char* controller : {"+cpu", "+memory", "+pids"})
    (void)write_file(dir + "/" + kSubtreeControl, controller);
}

/// A group and all below it, deepest first.
std::vector<std::string> subtree(const std::string& dir) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    if (!entry.is_directory(error) || entry.is_symlink(error)) continue;
    for (std::string& inner : subtree(entry.path())) found.push_back(std::move(inner));
  }
  if (fs::exists(dir, error)) found.push_back(dir);
  return found;
}

/// Sends SIGKILL to everything below and says whether anything was there.
bool kill_once(const std::string& dir) {
  bool found = false;
  // A frozen process dies only when thawed (v1); in v2 cgroup.kill reaches frozen ones too.
  for (const std::string& group : subtree(dir)) {
    if (fs::exists(group + "/" + kFreezerState))
      (void)write_file(group + "/" + kFreezerState, "THAWED");
  }
  const bool at_once = write_file(dir + "/" + kKill, "1").ok();
  for (const std::string& group : subtree(dir)) {
    std::ifstream procs(group + "/" + kProcs);
    for (pid_t pid; procs >> pid;) {
      if (pid == getpid()) continue;
      found = true;
      if (!at_once && pid > 0) kill(pid, SIGKILL);
    }
  }
  return found;
}

Status kill_below(const std::vector<std::string>& dirs) {
  const auto deadline = steady_clock::now() + kKillPatience;
  for (;;) {
    bool found = false;
    for (const std::string& dir : dirs) found |= kill_once(dir);
    if (!found) return {};
    if (steady_clock::now() > deadline)
      return refusal("kill what runs in " + dirs.front() + ": it does not die");
    std::this_thread::sleep_for(milliseconds(2));
  }
}

/// Removes a group and all below it. A group that has just been emptied may stay busy for a
/// moment, because exiting processes leave it late.
Status remove_below(const std::string& dir) {
  const auto deadline = steady_clock::now() + kRemovePatience;
  for (;;) {
    int failure = 0;
    for (const std::string& group : subtree(dir)) {
      if (rmdir(group.c_str()) != 0 && errno != ENOENT) failure = errno;
    }
    if (failure == 0) return {};
    if (steady_clock::now() > deadline) return Error{failure, "rmdir " + dir};
    std::this_thread::sleep_for(milliseconds(5));
  }
}

}  // namespace

std::vector<Hierarchy> parse_hierarchies(const std::string& mountinfo, const std::string& own) {
  std::vector<Hierarchy> found;
  std::set<std::string> seen;
  for (const std::string& line : split(mountinfo, '\n')) {
    // ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [FIELDS...] - TYPE SOURCE SUPEROPTIONS
    std::istringstream fields(line);
    std::string skip, root, mount, type, source, options;
    fields >> skip >> skip >> skip >> root >> mount;
    while (fields >> skip && skip != "-") {
    }
    fields >> type >> source >> options;
    if (type == "cgroup2" && seen.insert("").second) {
      found.push_back({mount, "", mount});
    } else if (type == "cgroup") {
      const std::string controllers = wanted_controllers(options);
      if (controllers.empty() || !seen.insert(controllers).second) continue;
      std::string path = own_path(own, controllers);
      if (root != "/" && path.rfind(root, 0) == 0) path = path.substr(root.size());
      found.push_back({mount, controllers, path == "/" || path.empty() ? mount : mount + path});
    }
  }
  return found;
}

Result<std::vector<Hierarchy>> find_hierarchies() {
  auto read_all = [](const char* path) {
    std::ifstream file(path);
    return std::string((std::istreambuf_iterator<char>(file)), {});
  };
  auto found = parse_hierarchies(read_all("/proc/self/mountinfo"), read_all("/proc/self/cgroup"));
  if (found.empty()) return refusal("cgroups: none are mounted");
  return found;
}

LabCgroups::LabCgroups(std::string lab, std::vector<Hierarchy> hierarchies)
    : lab_(std::move(lab)), hierarchies_(std::move(hierarchies)) {}

Status LabCgroups::create() const {
  for (const Hierarchy& hierarchy : hierarchies_) {
    DROVER_CHECK(make_dir(lab_dir(hierarchy)));
    if (hierarchy.v2()) {
      delegate(hierarchy.base);
      delegate(lab_dir(hierarchy));
    }
    DROVER_CHECK(make_dir(node_dir(hierarchy, kControlGroup)));
  }
  return {};
}

Status LabCgroups::create_node(const std::string& node, double cpus) const {
  for (const Hierarchy& hierarchy : hierarchies_) {
    const std::string dir = node_dir(hierarchy, node);
    DROVER_CHECK(make_dir(dir));
    if (hierarchy.v2()) DROVER_CHECK(make_dir(dir + "/" + kSystemGroup));
  }
  return cpus > 0 ? limit_cpus(node, cpus) : Status();
}

Status LabCgroups::limit_cpus(const std::string& node, double cpus) const {
  const std::string quota = std::to_string(std::lround(cpus * kPeriodMicroseconds));
  const std::string period = std::to_string(kPeriodMicroseconds);
  for (const Hierarchy& hierarchy : hierarchies_) {
    const std::string dir = node_dir(hierarchy, node) + "/";
    if (fs::exists(dir + kQuotaV2)) return write_file(dir + kQuotaV2, quota + " " + period);
    if (!fs::exists(dir + kQuotaV1)) continue;
    DROVER_CHECK(write_file(dir + kPeriodV1, period));
    return write_file(dir + kQuotaV1, quota);
  }
  return refusal("limit CPUs: this machine has no cpu cgroup controller");
}

Status LabCgroups::join_control() const {
  for (const Hierarchy& hierarchy : hierarchies_)
    DROVER_CHECK(write_file(node_dir(hierarchy, kControlGroup) + "/" + kProcs, "0"));
  return {};
}

Status LabCgroups::found_namespace(const std::string& node) const {
  for (const Hierarchy& hierarchy : hierarchies_)
    DROVER_CHECK(write_file(node_dir(hierarchy, node) + "/" + kProcs, "0"));
  if (unshare(CLONE_NEWCGROUP) != 0) return errno_error("make a cgroup namespace");
  DROVER_CHECK(join_node(node));
  for (const Hierarchy& hierarchy : hierarchies_) {
    if (hierarchy.v2()) delegate(node_dir(hierarchy, node));
  }
  return {};
}

Status LabCgroups::join_node(const std::string& node) const {
  for (const Hierarchy& hierarchy : hierarchies_) {
    const std::string dir =
        node_dir(hierarchy, node) + (hierarchy.v2() ? std::string("/") + kSystemGroup : "");
    DROVER_CHECK(write_file(dir + "/" + kProcs, "0"));
  }
  return {};
}

Status LabCgroups::kill_node(const std::string& node) const {
  std::vector<std::string> dirs;
  for (const Hierarchy& hierarchy : hierarchies_) dirs.push_back(node_dir(hierarchy, node));
  return kill_below(dirs);
}

Status LabCgroups::kill_all() const {
  std::vector<std::string> dirs;
  for (const Hierarchy& hierarchy : hierarchies_) dirs.push_back(lab_dir(hierarchy));
  return kill_below(dirs);
}

Status LabCgroups::remove_node(const std::string& node) const {
  for (const Hierarchy& hierarchy : hierarchies_)
    DROVER_CHECK(remove_below(node_dir(hierarchy, node)));
  return {};
}

Status LabCgroups::remove_all() const {
  for (const Hierarchy& hierarchy : hierarchies_) DROVER_CHECK(remove_below(lab_dir(hierarchy)));
  return {};
}

std::string LabCgroups::lab_dir(const Hierarchy& hierarchy) const {
  return hierarchy.base + "/moslab-" + lab_;
}

std::string LabCgroups::node_dir(const Hierarchy& hierarchy, const std::string& node) const {
  return lab_dir(hierarchy) + "/" + node;
}

}  // namespace drover::moslab
