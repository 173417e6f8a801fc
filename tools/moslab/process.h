// Children of moslab: commands whose outcome is checked, and processes named so that a pid that
// was given to another process in the meantime is noticed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover::moslab {

/// A process by pid and start time (field 22 of /proc/PID/stat, in clock ticks since boot):
/// together they are never used twice.
struct ProcessName {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
};

/// The name of a living process.
Result<ProcessName> name_process(pid_t pid);

/// A pidfd of that very process, or nothing when it is gone. See pidfd_open(2).
std::optional<OwnedFd> open_process(const ProcessName& process);

/// What a finished command printed.
struct CommandOutput {
  int status = 0;  ///< as of waitpid(2)
  std::string out;
  std::string err;
};

struct CommandOptions {
  std::string input;                       ///< its stdin
  std::function<Status()> prepare;         ///< runs in the child before the exec
  std::optional<std::string> working_dir;  ///< chdir there, after `prepare`
};

/// Runs argv (searched in PATH) to its end.
Result<CommandOutput> run_command(const std::vector<std::string>& argv,
                                  const CommandOptions& options = {});

/// The same, and anything but exit status 0 is an error that quotes the first line of stderr.
/// Returns its stdout.
Result<std::string> run_checked(const std::vector<std::string>& argv,
                                const CommandOptions& options = {});

/// Starts this very program again under another name (argv[0]); returns only on failure.
/// `program` is an fd of its executable: the path may not exist where the caller is now.
Status become(int program, const std::string& role);

/// An fd of the running executable.
Result<OwnedFd> open_self();

}  // namespace drover::moslab
