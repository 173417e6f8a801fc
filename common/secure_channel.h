// Secure channels: frames between two programs that share a 32-byte key, over a connected stream
// socket, under TLS 1.3 with an external pre-shared key (RFC 8446, sections 2.2 and 4.2.11; every
// handshake also exchanges X25519 keys, so that a key that leaks later opens nothing recorded).
//
// Not for use by two threads at once.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/frame.h"
#include "common/owned_fd.h"
#include "common/protocol.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

using ChannelKey = std::array<std::byte, 32>;
enum class ChannelRole { kDialler, kAcceptor };  // TLS client and server

/// send() gives up when the kernel has taken nothing for so long, unless it is told otherwise.
inline constexpr std::chrono::milliseconds kSendStall{10'000};

/// What send() reads on the side, so that two peers that send at once get on, is kept up to this
/// many bytes; after that it only waits.
inline constexpr std::size_t kMaxQueued = std::size_t{256} << 20;

class SecureChannel {
 public:
  /// Makes a channel of a connected stream socket; both ends must have the same key and different
  /// roles. Blocks, at most for `timeout`. Fails without a channel on a wrong key, on anything
  /// that is not the handshake, and with ETIMEDOUT. The socket is put into blocking mode and must
  /// not be used by anybody else from here on.
  static Result<SecureChannel> open(OwnedFd socket, ChannelRole role, const ChannelKey& key,
                                    std::chrono::milliseconds timeout);

  SecureChannel(SecureChannel&&) noexcept;
  SecureChannel& operator=(SecureChannel&&) noexcept;
  /// Without close(), the peer sees a connection that broke.
  ~SecureChannel();

  /// Sends one frame, `head` followed by `body`, together at most kMaxFrame bytes. Returns when
  /// the kernel has all of it; meanwhile it keeps reading, so two peers that send at once do not
  /// block each other. Fails with ETIMEDOUT after the time of allow_stall without progress, and
  /// when the peer is gone; after an error nothing more can be sent (frames that came can still be
  /// received).
  Status send(std::uint16_t type, ByteView head, ByteView body = {});
  /// From now on send() waits so long for progress, instead of kSendStall.
  void allow_stall(std::chrono::milliseconds stall);

  /// The next complete frame, or nothing if none has arrived. Never blocks. Once the peer has
  /// closed, or broken the protocol, and all frames before that are taken: an error, every time.
  Result<std::optional<Frame>> receive();

  /// Waits for a frame, at most `timeout`; then fails with ETIMEDOUT and the channel lives on.
  Result<Frame> receive_within(std::chrono::milliseconds timeout);

  /// Says farewell: the peer will see an orderly end after all that was sent. Nothing can be sent
  /// any more; what the peer still sends can be received. Waits at most `timeout` for the kernel
  /// to take what is left.
  Status close(std::chrono::milliseconds timeout = std::chrono::seconds(1));

  /// Ends it at once. What was sent and has not left this machine never does: of what the peer has
  /// not heard when this returns, it hears only what is on its way. Everything is an error then.
  void abort();

  /// The version of the protocol that the two ends have agreed on; the newest until they have.
  std::uint32_t protocol() const { return protocol_; }
  void speak(std::uint32_t protocol) { protocol_ = protocol; }

  /// Whether receive() has failed because the peer called close(), between two frames.
  bool peer_closed() const;

  /// Poll this for POLLIN, level-triggered, once receive() has given nothing: frames that have
  /// arrived already do not show here.
  int poll_fd() const;

  /// Bytes on the socket, with the handshake and what TLS adds.
  std::uint64_t bytes_sent() const;
  std::uint64_t bytes_received() const;

 private:
  struct State;
  explicit SecureChannel(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
  std::uint32_t protocol_ = kNewestProtocol;
};

}  // namespace drover
