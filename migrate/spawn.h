// Starting deputies and guests: the two programs that migrated runs, each with its own
// identity, an empty environment but for what is named here, and its end of a socket as
// descriptor 3.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/local_socket.h"
#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// A program that was started. It is a child of ours until it has been waited for.
struct Spawned {
  pid_t pid = 0;
  LocalSocket socket;  ///< our end of its descriptor 3
};

struct SpawnSettings {
  std::string program_directory;  ///< where deputy and guest are
  std::string node;               ///< this node's name, which a deputy is told
  std::string fault;              ///< DROVER_FAULT, or empty
  std::string deputy_user;        ///< also the content keeper's
  std::string guest_root;         ///< a directory that guests have an empty root in place of
};

/// The directory of the program that is running (/proc/self/exe).
Result<std::string> own_program_directory();

/// Starts `deputy NODE` as settings.deputy_user with the capabilities that holding other users'
/// processes takes and no other, in the cgroups of the process `job`.
Result<Spawned> spawn_deputy(const SpawnSettings& settings, pid_t job);

/// Starts `guest` under the throwaway identity `outer_uid` (migrate/sandbox.h), in the groups
/// whose cgroup.procs files are `join`.
Result<Spawned> spawn_guest(const SpawnSettings& settings, uid_t outer_uid,
                            const std::vector<std::string>& join);

/// Starts `contentd`, the keeper of the content cache, as settings.deputy_user and without any
/// capability. Makes the directory, that user's own, if it is not there.
Result<Spawned> spawn_content_keeper(const SpawnSettings& settings, const std::string& directory,
                                     std::uint64_t limit_bytes);

}  // namespace drover
