// The command line of moslab.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// A command line, understood.
struct Command {
  std::string verb;                  ///< "up", "exec", ...; "help" and "version" too
  std::optional<std::string> lab;    ///< --name
  std::vector<std::string> words;    ///< what is not an option: node names
  std::vector<std::string> program;  ///< exec: what follows --
  std::optional<uid_t> user;         ///< exec --user
  LabSpec spec;                      ///< up
  bool all = false;                  ///< down --all
  bool json = false;                 ///< status --json
};

/// Understands a command line (without the program's own name). An error is one of usage.
Result<Command> parse_command_line(const std::vector<std::string>& args);

/// The text of --help.
std::string usage();

}  // namespace drover::moslab
