// Peer links: the one connection between the daemons of two nodes, under mutual TLS 1.3.
//
// Each side shows its Ed25519 identity key, wrapped in a self-signed certificate that is made in
// memory and of which only the key counts. The dialler demands one key; the acceptor asks the
// membership list whose it is. The keys of the channels between the two nodes' programs are
// derived from the link by the TLS exporter (RFC 8446, section 7.5), and its end means that the
// peer is gone: the kernel's keep-alive ends it within 9 s of silence.
//
// Nothing here waits: poll fd() for POLLIN (and POLLOUT while wants_write()), then call step().
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/ed25519.h"
#include "common/owned_fd.h"
#include "common/result.h"
#include "common/secure_channel.h"
#include "common/wire.h"

namespace drover {

class PeerLink {
 public:
  enum class Progress { kConnecting, kEstablished };

  /// The name of the node with this identity key, or nothing to refuse it.
  using FindPeer = std::function<std::optional<std::string>(std::span<const std::byte, 32>)>;

  /// Begins a link to the node `name`, whose key must be `expected`. The socket may still be
  /// connecting.
  static Result<PeerLink> dial(OwnedFd socket, const Ed25519Key& own, std::string name,
                               const Ed25519PublicKey& expected);

  /// Begins the other side, on an accepted socket. `find_peer` is called once, during a step().
  static Result<PeerLink> accept(OwnedFd socket, const Ed25519Key& own, FindPeer find_peer);

  PeerLink(PeerLink&&) noexcept;
  PeerLink& operator=(PeerLink&&) noexcept;
  /// Without close(), the peer sees a connection that broke.
  ~PeerLink();

  /// Does what can be done without waiting. kEstablished means that both sides have accepted each
  /// other. An error means that the link is over (refused, closed, broken, silent too long), and
  /// stays. How long a link may take to establish is for the caller to say.
  Result<Progress> step();

  int fd() const;
  bool wants_write() const;
  bool established() const;

  /// Who the peer is; empty and zero before it is established.
  const std::string& peer_name() const;
  const Ed25519PublicKey& peer_key() const;

  /// A key that only the two ends of this link have; the same on both sides for the same label
  /// and context, unrelated for any other. Fails unless established.
  Result<ChannelKey> derive_key(std::string_view label, ByteView context) const;

  /// Says farewell, without waiting. The link is over.
  void close();

 private:
  struct State;
  explicit PeerLink(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace drover
