// A lab as it is written down under /run/moslab/NAME, so that every later command, and one that
// cleans up after a crash, knows what there is.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/owned_fd.h"
#include "common/result.h"
#include "tools/moslab/cgroups.h"
#include "tools/moslab/process.h"

namespace drover::moslab {

/// What the caller of `moslab up` asked for.
struct LabSpec {
  std::string name = "lab";
  int nodes = 0;
  std::vector<double> cpus;         ///< per node, in CPUs; 0: no limit; empty: none has one
  double rtt_ms = 0;                ///< added to every round trip; 0: none
  double rate_mbit = 0;             ///< of every node's link, each way; 0: unlimited
  std::vector<std::string> masks;   ///< directories that are empty on every node but n1
  std::string bin;                  ///< host directory of the programs, /usr/lib/drover in nodes
  std::map<int, std::string> bins;  ///< the same of nodes that have others, by number
  std::vector<std::string> config;  ///< extra lines of every node's drover.conf
  bool daemons = true;

  const std::string& bin_of(int index) const {
    const auto own = bins.find(index);
    return own == bins.end() ? bin : own->second;
  }
};

/// Two nodes that do not reach each other, the lower one first.
using Cut = std::pair<int, int>;

struct Lab {
  LabSpec spec;
  std::vector<Hierarchy> hierarchies;
  ProcessName switch_process;        ///< holds the lab's network switch and its disks
  std::map<int, ProcessName> inits;  ///< pid 1 of every node that is up
  std::vector<Cut> cuts;

  LabCgroups cgroups() const { return LabCgroups(spec.name, hierarchies); }
};

/// Number N of node nN of this lab.
Result<int> node_index(const Lab& lab, const std::string& name);
std::string node_name(int index);
/// The address of a node, which exists in its lab's own network only.
std::string node_address(int index);

/// Directory with everything a lab has on the host.
std::string lab_dir(const std::string& name);
/// Where the node's disk is, in the switch process' mount namespace only.
std::string disk_dir(const std::string& lab, int index);

/// "0.5,1" as CPU figures for `nodes` nodes: one for all, or one each.
Result<std::vector<double>> parse_cpus(const std::string& text, int nodes);
/// A lab's name is used in file and cgroup names: letters, digits, `-` and `_`, at most 32.
Status check_lab_name(const std::string& name);

/// Makes the lab's directory; fails if there is such a lab already.
Status create_lab_dir(const std::string& name);
/// Removes the lab's directory and whatever is in it.
Status remove_lab_dir(const std::string& name);
/// All labs that exist, in whatever state.
std::vector<std::string> list_labs();
/// The only lab there is; an error if there are more, or none.
Result<std::string> only_lab();

Result<Lab> load_lab(const std::string& name);
Status save_lab(const Lab& lab);

/// Waits until no other command changes this lab, and keeps others waiting while the result lives.
Result<OwnedFd> lock_lab(const std::string& name);

}  // namespace drover::moslab
