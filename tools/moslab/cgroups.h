// The cgroups of a lab: one subtree per hierarchy, on cgroup v1, v2 or a mixture of both.
//
// In every hierarchy in use the lab owns BASE/moslab-LAB, with a child `ctl` for moslab's own
// workers and one child per node, which is the root of the node's cgroup namespace. In cgroup v2
// a group with controllers enabled for its children may hold no process, so there the processes
// of a node start in its child `system`. BASE is the starter's own cgroup in v1 (a lab lives
// within its starter's limits) and the root of the mount in v2, where the starter's own group
// holds processes and so cannot have children with controllers.
// Follows Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/result.h"

namespace drover::moslab {

/// A mounted cgroup hierarchy that labs use.
struct Hierarchy {
  std::string mount;        ///< where it is mounted, the same path inside the nodes
  std::string controllers;  ///< v1: mount option such as "cpu,cpuacct"; v2: empty
  std::string base;         ///< directory in which the lab's subtree is made
  bool v2() const { return controllers.empty(); }
};

/// The hierarchies with a controller that nodes need (cpu, cpuacct, memory, freezer, pids) and v2,
/// from the texts of /proc/self/mountinfo and /proc/self/cgroup.
std::vector<Hierarchy> parse_hierarchies(const std::string& mountinfo, const std::string& own);

/// The hierarchies of this machine.
Result<std::vector<Hierarchy>> find_hierarchies();

/// The subtree of one lab in all hierarchies.
class LabCgroups {
 public:
  LabCgroups(std::string lab, std::vector<Hierarchy> hierarchies);

  const std::vector<Hierarchy>& hierarchies() const { return hierarchies_; }

  /// Makes the lab's groups. Nothing may exist of them yet.
  Status create() const;
  /// Makes a node's groups and limits it to `cpus` CPUs (0: no limit).
  Status create_node(const std::string& node, double cpus) const;
  /// Moves the calling process among moslab's own workers of this lab.
  Status join_control() const;
  /// Moves the calling process to a node's groups and makes them the root of a new cgroup
  /// namespace: the first process of a node does it, before any other is in.
  Status found_namespace(const std::string& node) const;
  /// Moves the calling process to where the processes of the node belong.
  Status join_node(const std::string& node) const;

  /// Kills everything in a node's groups, frozen or not, and waits until it is gone.
  Status kill_node(const std::string& node) const;
  /// Kills everything in the lab's groups and waits until it is gone.
  Status kill_all() const;
  /// Removes a node's groups, which hold no process any more.
  Status remove_node(const std::string& node) const;
  /// Removes all of the lab's groups.
  Status remove_all() const;

 private:
  std::string lab_dir(const Hierarchy& hierarchy) const;
  std::string node_dir(const Hierarchy& hierarchy, const std::string& node) const;
  Status limit_cpus(const std::string& node, double cpus) const;

  std::string lab_;
  std::vector<Hierarchy> hierarchies_;
};

}  // namespace drover::moslab
