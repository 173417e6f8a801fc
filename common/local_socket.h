// Messages between programs of one machine: Unix SOCK_SEQPACKET sockets, descriptors passed along.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/owned_fd.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

/// The largest message; a larger one is refused by the sender and by the receiver.
inline constexpr std::size_t kMaxPacketBytes = 256 * 1024;
/// The most descriptors one message carries (SCM_MAX_FD of the kernel).
inline constexpr std::size_t kMaxPacketFds = 253;
/// As a timeout: wait for as long as it takes.
inline constexpr std::chrono::milliseconds kForever{-1};
/// How long `send` waits by default for a peer that does not read.
inline constexpr std::chrono::milliseconds kSendPatience{5000};

/// One message and the descriptors that came with it, all close-on-exec.
struct Packet {
  Bytes data;
  std::vector<OwnedFd> fds;
};

/// Who was at the other end when the connection was made (SO_PEERCRED, socket(7)), as the
/// kernel says it: ids outside this program's namespaces are 0 (pid) or 65534 (uid, gid).
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

/// One connected SEQPACKET socket (unix(7)). A packet arrives whole or not at all.
class LocalSocket {
 public:
  /// Connects to the listener at `path`.
  static Result<LocalSocket> connect(const std::string& path);
  /// Two ends of one connection, for a child or a test.
  static Result<std::pair<LocalSocket, LocalSocket>> pair();
  /// Takes over a connected socket.
  explicit LocalSocket(OwnedFd socket);

  /// Sends one packet of 1 to kMaxPacketBytes bytes (an empty one cannot be told from a
  /// closed connection) with copies of `fds`. Waits at most `timeout` for a peer that does
  /// not read (then ETIMEDOUT, nothing was sent). A closed peer is EPIPE, never SIGPIPE.
  Status send(ByteView data, std::span<const int> fds = {},
              std::chrono::milliseconds timeout = kSendPatience);

  /// The next packet; nothing if the peer closed. ETIMEDOUT if none came within `timeout`.
  /// A packet that is too large, or whose descriptors do not all fit into this process, is
  /// an error and is lost; those descriptors that came are closed.
  /// That others who have this end of the socket make mischief is an error, too (EPROTO).
  /// Descriptors beyond `most_fds` are refused before they are ours: to close one that a stranger
  /// has sent (of a file system of his, say) may take for ever.
  Result<std::optional<Packet>> receive(std::chrono::milliseconds timeout,
                                        std::size_t most_fds = kMaxPacketFds);

  /// Who is at the other end.
  Result<PeerCredentials> peer() const;
  /// For poll(2) only.
  int fd() const { return socket_.get(); }
  /// Gives the socket up, for instance to pass it to another program.
  OwnedFd release() { return std::move(socket_); }

 private:
  OwnedFd socket_;
};

/// A listening socket in the file system, which every user of the machine may connect to:
/// who may do what is decided by PeerCredentials.
class LocalListener {
 public:
  /// Listens at `path` (mode 0666). A socket left by a program that died is replaced; one
  /// that is served is EADDRINUSE; anything that is not a socket is refused.
  static Result<LocalListener> open(const std::string& path);
  LocalListener(LocalListener&&) noexcept = default;
  LocalListener& operator=(LocalListener&&) = delete;
  /// Removes the socket from the file system, unless another has taken its place.
  ~LocalListener();

  /// The next connection; ETIMEDOUT if none came within `timeout`.
  Result<LocalSocket> accept(std::chrono::milliseconds timeout);
  /// For poll(2) only.
  int fd() const { return socket_.get(); }

 private:
  LocalListener(OwnedFd socket, std::string path, dev_t device, ino_t inode);

  OwnedFd socket_;
  std::string path_;
  dev_t device_;
  ino_t inode_;
};

}  // namespace drover
