// Nodes coming and going: the processes that hold a lab together, and power on and off.
//
// The switch process of a lab holds the network namespace with the bridge and the mount namespace
// with the lab's disks (a tmpfs). The init of a node is pid 1 of its pid namespace: when it dies,
// the kernel kills all of the node and takes its namespaces away. Both are this program under
// another name. No mount and no device of a lab is ever visible in the host's own namespaces.
#pragma once

#include <string>

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

inline constexpr char kInitRole[] = "moslab-init";
inline constexpr char kSwitchRole[] = "moslab-switch";

/// Offsets of a node's clocks since boot against the host's, as /proc/PID/timens_offsets wants
/// them (time_namespaces(7)): minutes apart between nodes, as between real machines.
std::string clock_offsets(int index);

/// Starts the lab's switch process; its name is in `lab` afterwards.
Status start_switch(Lab& lab);

/// Moves the calling process to the mount namespace with the lab's disks.
Status enter_disks(const Lab& lab);

/// Boots a node: groups, namespaces, file system, init, network and the cuts that there are. Its
/// init is in `lab` afterwards. The caller has entered the disks, and the disk is formatted.
Status boot_node(Lab& lab, int index);

/// Power cut: the cable goes first, so that no farewell of the dying processes gets out.
Status power_cut(Lab& lab, int index);

/// Main function of a node's pid 1: reaps what is orphaned in the node.
int run_init();
/// Main function of the switch process: exists.
int run_switch();

}  // namespace drover::moslab
