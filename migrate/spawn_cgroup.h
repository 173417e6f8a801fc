// Control groups: where a process is in them, and the groups that guests run in
// (cgroups(7); both versions, and both at once).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace drover {

/// One hierarchy's directory.
struct CgroupDirectory {
  std::string controllers;  ///< of version 1, for instance "cpu,cpuacct"; empty for version 2
  std::string path;         ///< below a mount point that we see

  bool unified() const { return controllers.empty(); }
};

/// The directories of `pid`'s groups in every hierarchy that is mounted here. Hierarchies that
/// are not mounted, and groups outside the mounts, are left out.
Result<std::vector<CgroupDirectory>> cgroups_of(pid_t pid);
/// The same from the texts of /proc/PID/cgroup and /proc/self/mountinfo.
std::vector<CgroupDirectory> parse_cgroups(std::string_view cgroup, std::string_view mountinfo);

/// The group of one guest, below this daemon's own: "drover-guests/NAME" with a low CPU weight,
/// so that guests yield to the node's own work.
class GuestCgroup {
 public:
  /// Makes what can be made. What cannot (no cgroups, read-only, no cpu controller) is named
  /// by `shortfall` in words; the guest runs all the same.
  static GuestCgroup make(const std::string& name);
  /// One that was made before; `directories` are what directories() gave then.
  static GuestCgroup made_before(std::vector<std::string> directories);
  GuestCgroup(GuestCgroup&&) = default;
  GuestCgroup& operator=(GuestCgroup&&) = default;

  /// Once the guest has ended: kills what it has left behind and removes the group. False if
  /// something in it is still dying: try again in a moment.
  bool remove();
  /// What `remove` could not remove, in words: the directories and who is in them.
  std::string remains() const;

  const std::string& shortfall() const { return shortfall_; }
  const std::vector<std::string>& directories() const { return directories_; }
  /// The files that a process writes "0" to in order to join.
  std::vector<std::string> join_files() const;

 private:
  GuestCgroup() = default;
  Status make_in(const CgroupDirectory& own, const std::string& name);

  std::vector<std::string> directories_;
  std::string shortfall_;
};

}  // namespace drover
