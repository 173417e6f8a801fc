// What /proc says about a process, as far as migrated needs it: who it is, and what speaks
// against moving it (proc_pid_status(5), proc_pid_stat(5)). No memory of a job is ever read here.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace drover {

struct ProcessStatus {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';               ///< as in ps: R, S, D, T, t, Z, X
  std::uint64_t start_ticks = 0;  ///< since boot: with the pid it names a process for good
  std::string command;            ///< at most 15 bytes, chosen by the process
  std::array<uid_t, 4> uids{};    ///< real, effective, saved, file system
  std::array<gid_t, 4> gids{};
  unsigned threads = 1;
  pid_t tracer = 0;
  unsigned seccomp = 0;  ///< 0 none, 1 strict, 2 filter
  std::uint64_t permitted_capabilities = 0;
  bool nested = false;  ///< it has another pid in a namespace of its own
  bool kernel_thread = false;
  std::uint64_t cpu_ns = 0;  ///< user and system time
  std::uint64_t rss_bytes = 0;
  std::uint64_t swap_bytes = 0;
  bool dumpable = true;     ///< false also for what nobody but root may read
  std::string confinement;  ///< profile of an LSM, empty if there is none
};

/// Reads /proc/PID/status, stat and attr below `root`. ESRCH if there is no such process.
Result<ProcessStatus> read_process(pid_t pid, const std::string& root = "/proc");
/// The processes there are.
Result<std::vector<pid_t>> list_processes(const std::string& root = "/proc");

/// Fill in what the two files say; an error if a field that is needed is not there.
Status parse_process_status(std::string_view text, ProcessStatus& process);
Status parse_process_stat(std::string_view text, ProcessStatus& process);

/// What speaks against moving the process, one reason in words each; none if it may go.
/// `tracer_is_ours`: it is held by its deputy, which is no objection.
std::vector<std::string> objections_to_moving(const ProcessStatus& process, bool root_allowed,
                                              bool tracer_is_ours);

}  // namespace drover
