// The socket to migrated, as a deputy or a guest holds it. migrated may stop and be started again
// (migrate/daemon_programs.h): it is never waited for while the program has something to do.
#pragma once

#include <google/protobuf/message_lite.h>

#include <chrono>
#include <optional>

#include "common/local_socket.h"
#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

class ControlLine {
 public:
  explicit ControlLine(LocalSocket socket) : socket_(std::move(socket)) {}

  /// Keeps migrated's own end of the socket for the migrated that comes after it.
  void keep(OwnedFd other_end) { other_end_ = std::move(other_end); }

  /// Says what is said once. It waits in the socket until somebody reads it, as long as there is
  /// room (ETIMEDOUT if there is none).
  Status say(const google::protobuf::MessageLite& event);
  /// Says what will be said again: nothing, if what was said lately has not been read.
  void say_again(const google::protobuf::MessageLite& event);

  /// The next order; nothing if there is no migrated any more. ETIMEDOUT as LocalSocket::receive.
  Result<std::optional<Packet>> receive(std::chrono::milliseconds timeout);
  /// For poll(2): -1 once migrated has closed its end, and nobody else has it.
  int fd() const { return open_ ? socket_.fd() : -1; }

  /// Waits until all that was said has been read, or cannot be any more.
  void await_heard(std::chrono::milliseconds patience) const;
  /// Whether something has not been read yet.
  bool unheard() const { return unread_bytes() > 0; }

 private:
  int unread_bytes() const;

  LocalSocket socket_;
  OwnedFd other_end_;
  bool open_ = true;
};

}  // namespace drover
