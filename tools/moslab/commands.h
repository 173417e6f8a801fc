// What the commands of moslab do.
#pragma once

#include <string>

#include "common/result.h"
#include "tools/moslab/cli.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// Brings a lab up. When it fails, or is interrupted, nothing of it is left.
Status bring_up(const LabSpec& spec);
/// Takes a lab down, in whatever state it is: nothing of it is left.
Status take_down(const std::string& name);
Status cut_nodes(const std::string& lab, const std::string& one, const std::string& other);
/// Heals one cut, or all when the names are empty.
Status heal_nodes(const std::string& lab, const std::string& one, const std::string& other);
Status kill_node(const std::string& lab, const std::string& node);
Status start_node(const std::string& lab, const std::string& node);
/// The lab's nodes as a table or as JSON.
Result<std::string> describe(const std::string& lab, bool json);

}  // namespace drover::moslab
