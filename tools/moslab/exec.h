// Running a command inside a node.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// Exit status of `moslab exec` when the command was not started; as env(1) and docker have it.
inline constexpr int kExecFailed = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct ExecRequest {
  int node = 0;
  std::vector<std::string> argv;
  std::optional<uid_t> user;  ///< runs as it; root if not given
};

/// Runs the command in all namespaces and groups of the node, with this process' own stdin, stdout
/// and stderr, and waits for it. Returns its exit status, 128+N when signal N killed it. Signals
/// sent to this process are passed on to the command.
///
/// When stdin is a terminal it is the command's controlling terminal, too, and job control works
/// as if the command was run in place. Without one the command has a session of its own.
Result<int> run_in_node(const Lab& lab, const ExecRequest& request);

}  // namespace drover::moslab
