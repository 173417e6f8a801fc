// Deputies and guests as migrated holds them: those that it has started, and those that the
// migrated before it has.
//
// Such a program outlives us. With its first order it gets a descriptor of our own end of the
// socket to it, and keeps it. So the socket never hangs up, what is said on it waits there, and
// whoever comes after us takes the end back from that very process (pidfd_getfd(2)), which he knows
// by what we have written down. Nobody can claim to be it, for nothing is claimed: it is looked up.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "common/local_socket.h"
#include "common/owned_fd.h"
#include "common/protocol.h"
#include "common/result.h"
#include "migrate/spawn.h"

namespace drover {

/// A program and our end of the socket to it: neither is ever another's.
struct ProgramIdentity {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
  std::uint64_t socket_inode = 0;
  std::uint64_t socket_cookie = 0;  ///< SO_COOKIE of socket(7)
  ProtocolRange speaks{};           ///< an older one may live on under us
};

class Program {
 public:
  /// One that has just been started, and is a child of ours. Ended if this fails.
  static Result<Program> started(Spawned spawned);
  /// One that was started before us; its socket is yet to be reclaimed. ESRCH if it has gone.
  static Result<Program> find(const ProgramIdentity& identity);

  /// Takes our end of the socket back from the program. ENOENT if it does not have it: it has
  /// not read its first order yet, or has given it away.
  Status reclaim_socket();

  const ProgramIdentity& identity() const { return identity_; }
  pid_t pid() const { return identity_.pid; }
  /// Null if it is not ours (yet).
  LocalSocket* socket() { return socket_ ? &*socket_ : nullptr; }
  /// Readable for poll(2) once the program has ended.
  int pidfd() const { return pidfd_.get(); }
  /// Sends a signal to it, and never to another that has its pid.
  void signal(int number) const;

 private:
  Program(const ProgramIdentity& identity, OwnedFd pidfd)
      : identity_(identity), pidfd_(std::move(pidfd)) {}

  ProgramIdentity identity_;
  OwnedFd pidfd_;
  std::optional<LocalSocket> socket_;
};

}  // namespace drover
