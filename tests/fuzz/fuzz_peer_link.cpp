// What somebody on the network can do to a peer link. The first byte chooses: bytes instead of a
// handshake, thrown at an acceptor or a dialler; or a handshake between two real sides in which
// the rest of the input says which bytes are changed on their way, or is put in between.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

#include "common/peer_link.h"

using namespace drover;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

struct Node {
  Ed25519Key key;
  explicit Node(unsigned char seed) : key(make(seed)) {}
  static Ed25519Key make(unsigned char seed) {
    Ed25519Seed raw{std::byte{seed}};
    auto key = Ed25519Key::from_raw(raw);
    require(key.ok());
    return *std::move(key);
  }
};

const Node& dialling() {
  static const Node node(1);
  return node;
}
const Node& accepting() {
  static const Node node(2);
  return node;
}

std::optional<std::string> find_peer(std::span<const std::byte, 32> key) {
  if (std::ranges::equal(key, dialling().key.public_key())) return "n1";
  return std::nullopt;
}

struct Ends {
  OwnedFd link;
  OwnedFd wire;
};

Ends ends() {
  int fds[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {OwnedFd(fds[0]), OwnedFd(fds[1])};
}

PeerLink begin(OwnedFd socket, bool acceptor) {
  auto link = acceptor ? PeerLink::accept(std::move(socket), accepting().key, find_peer)
                       : PeerLink::dial(std::move(socket), dialling().key, "n2",
                                        accepting().key.public_key());
  require(link.ok());
  return *std::move(link);
}

void put(int fd, ByteView bytes) {
  ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void no_handshake(ByteView bytes, bool acceptor) {
  Ends e = ends();
  PeerLink link = begin(std::move(e.link), acceptor);
  static_cast<void>(link.step().ok());
  put(e.wire.get(), bytes);
  static_cast<void>(link.step().ok());
  e.wire.reset();
  for (int i = 0; i < 3; ++i) static_cast<void>(link.step().ok());
  require(!link.established());
  require(!link.step().ok());
}

struct Meddling {
  bool any = false;
  bool must_fail = false;  // TLS may ignore what is put in (a ChangeCipherSpec), but no change
};

/// Passes on what came, with the next change that `bytes` holds: where, and what to flip or put in.
void pass(int from, int to, ByteView& bytes, Meddling* meddling) {
  std::array<std::byte, 8192> buffer;
  const ssize_t n = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n <= 0) return;
  const auto came = std::span(buffer).first(static_cast<std::size_t>(n));
  if (bytes.size() < 3) return put(to, came);
  const std::size_t at =
      (std::to_integer<std::size_t>(bytes[0]) << 8 | std::to_integer<std::size_t>(bytes[1])) %
      came.size();
  const std::byte what = bytes[2];
  bytes = bytes.subspan(3);
  if (std::to_integer<unsigned>(what) % 4 == 1) {
    put(to, came.first(at));
    put(to, bytes);
    put(to, came.subspan(at));
    meddling->any = true;
    bytes = {};
    return;
  }
  came[at] ^= what;
  if (what != std::byte{0}) {
    meddling->any = true;
    // Byte 2 of a first message, its record version, must be ignored (RFC 8446, 5.1).
    if (at != 2) meddling->must_fail = true;
  }
  put(to, came);
}

void meddled_handshake(ByteView bytes) {
  Ends d = ends(), a = ends();
  PeerLink dialler = begin(std::move(d.link), false);
  PeerLink acceptor = begin(std::move(a.link), true);
  Meddling meddling;
  for (int i = 0; i < 6; ++i) {
    static_cast<void>(dialler.step().ok());
    pass(d.wire.get(), a.wire.get(), bytes, &meddling);
    static_cast<void>(acceptor.step().ok());
    pass(a.wire.get(), d.wire.get(), bytes, &meddling);
  }
  if (dialler.established() && acceptor.established()) {
    auto x = dialler.derive_key("fuzz", {}), y = acceptor.derive_key("fuzz", {});
    require(x.ok() && y.ok() && *x == *y);
    require(!meddling.must_fail);
  } else {
    require(meddling.any);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      no_handshake(bytes, true);
      break;
    case 1:
      no_handshake(bytes, false);
      break;
    case 2:
      meddled_handshake(bytes);
      break;
  }
  return 0;
}
