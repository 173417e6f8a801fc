// Telling the user of a job something, on the job's own stderr.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// Remembers where a process's stderr goes, for use after the process has died. What is kept is
/// no writer (O_PATH, open(2)): a pipe's reader sees its end when the job's own writers close.
class JobStderr {
 public:
  JobStderr() = default;
  /// Of a process that is alive, and whose descriptor 2 is open for writing. `uid` and `gid`
  /// are the job's: with their rights it will be written to.
  static Result<JobStderr> of(pid_t pid, uid_t uid, gid_t gid);

  /// Writes "LINE\n". Never waits: what cannot be written at once is lost.
  void say(const std::string& line) const;

 private:
  JobStderr(OwnedFd path, uid_t uid, gid_t gid) : path_(std::move(path)), uid_(uid), gid_(gid) {}

  OwnedFd path_;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
};

}  // namespace drover
