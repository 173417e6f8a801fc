// A node's file system: an overlay over the host's root that keeps nothing of what the node must
// have of its own: /home, /root, /var and /etc/drover start empty and stay on the node's disk,
// /run, /tmp, /dev, /proc and /sys are new at every boot.
#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// Where the programs of the lab's bin directory are found inside every node.
inline constexpr char kNodeBin[] = "/usr/lib/drover";

/// A new node's disk: its own directories, its host name and the names of all nodes. Runs in the
/// mount namespace that has the lab's disks.
Status format_disk(const LabSpec& spec, int index);

/// Builds the file system of node `index` and makes it the root of the calling process' mount
/// namespace, which must be a new one made from the one with the lab's disks. The caller must be
/// in all the other namespaces of the node already, because /proc, /sys and the cgroup mounts
/// show those of who mounts them.
Status enter_new_root(const Lab& lab, int index);

/// Mount points of the file systems on block devices other than the root, from the text of
/// /proc/self/mountinfo: nodes see these too, each through an overlay of its own. None below
/// directories that a node has of its own.
std::vector<std::string> disk_mounts(const std::string& mountinfo);

/// Whether a node has its own instead of the host's `path`.
bool is_private(const std::string& path);

}  // namespace drover::moslab
