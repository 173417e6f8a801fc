// Short messages between the migrated daemons: ZeroMQ, always under CURVE.
//
// Every node has one ROUTER, bound to its control port, to receive, and one DEALER a peer,
// connected when first needed, to send. A thread of the bus owns all sockets; it is also the
// ZAP handler (https://rfc.zeromq.org/spec/27/) that maps a peer's CURVE key to its name by
// the membership list. Nothing that a peer says decides whose message it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/identity.h"
#include "common/membership.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

inline constexpr std::size_t kMaxBusMessageBytes = 256 * 1024;
/// A message that could not be handed to its node's connection for so long is dropped, and
/// the log says so: an order is not to take effect long after it was given.
inline constexpr std::chrono::seconds kBusMessageLife{10};

struct BusMessage {
  std::string from;  ///< the authenticated name of the sender
  Bytes payload;
};

/// Messages of one node arrive in the order sent, at most once; those under way when a
/// connection breaks are lost (replies and timeouts are the caller's protocol), and those of a
/// node that has 1024 or 32 MiB unread here. All functions
/// may be called by any thread; none blocks.
class ControlBus {
 public:
  /// Listens at `bind_host` (an IP address) and `port`; port 0 takes any, see `port()`.
  static Result<ControlBus> open(const NodeKeys& keys, std::shared_ptr<const Membership> members,
                                 const std::string& bind_host, std::uint16_t port);
  ControlBus(ControlBus&&) noexcept;
  ControlBus& operator=(ControlBus&&) noexcept;
  /// Closes at once, but for messages already handed to a connection (200 ms).
  ~ControlBus();

  /// Queues a message for `node`. Errors: the node is not a member or is revoked; EMSGSIZE;
  /// ENOBUFS if the node does not take what was queued before.
  Status send(const std::string& node, ByteView payload);

  /// The next message, or nothing.
  std::optional<BusMessage> receive();

  /// For poll(2) or an edge-triggered epoll(7): readable while messages wait. Drain `receive`
  /// until it gives nothing.
  int poll_fd() const;

  /// Puts a new list into force. From the return on, nothing of a node that is revoked, or has
  /// got other keys, is received, even if it was sent before; its connections close. (So do all
  /// incoming connections if there is such a node; the others' come back within a second.)
  void set_membership(std::shared_ptr<const Membership> members);

  std::uint16_t port() const;

 private:
  class Core;
  explicit ControlBus(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace drover
