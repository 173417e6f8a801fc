// The lab's network: a bridge in a network namespace of its own (the switch process'), with one
// cable (a veth pair) to every node. Nothing of it appears in the host's network.
#pragma once

#include <string>

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// Builds the bridge in the network namespace of the lab's switch process.
Status create_switch(const Lab& lab);

/// Plugs a node in: its eth0 with its address, and the lab's rate and delay at both ends.
Status connect_node(const Lab& lab, int index);

/// Pulls a node's cable out for good, so that nothing more comes out of it.
Status disconnect_node(const Lab& lab, int index);

/// Drops everything between two nodes from now on, both ways and without a word to either.
Status cut_link(const Lab& lab, Cut cut);
/// Undoes cut_link.
Status heal_link(const Lab& lab, Cut cut);

}  // namespace drover::moslab
