// What a peer can do to a channel. The first byte chooses: bytes instead of a handshake, thrown at
// an acceptor or a dialler; or, from a peer that has the right key, any plaintext where frames
// should be, cut into records as the second byte says, with or without a farewell.
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <thread>

#include "common/secure_channel.h"
#include "tests/fuzz/raw_dialler.h"

using namespace drover;
using namespace std::chrono_literals;

namespace {

constexpr ChannelKey kKey{std::byte{1}, std::byte{2}, std::byte{3}};

void require(bool held) {
  if (!held) std::abort();
}

struct Sockets {
  OwnedFd channel;
  OwnedFd wire;
};

Sockets sockets() {
  int fds[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {OwnedFd(fds[0]), OwnedFd(fds[1])};
}

void no_handshake(ByteView bytes, ChannelRole role) {
  Sockets s = sockets();
  ::send(s.wire.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(s.wire.get(), SHUT_WR);
  require(!SecureChannel::open(std::move(s.channel), role, kKey, 5s).ok());
}

/// Takes frames until the channel ends; each must be what stood there in `plain`.
void check_frames(SecureChannel& channel, ByteView plain, bool farewell) {
  std::size_t used = 0;
  while (true) {
    auto frame = channel.receive_within(5s);
    if (!frame) {
      require(frame.error().code != ETIMEDOUT);
      require(channel.peer_closed() == (farewell && used == plain.size()));
      return;
    }
    const auto header = frame_header(frame->type, frame->payload.size());
    require(plain.size() - used >= header.size() + frame->payload.size());
    require(std::ranges::equal(header, plain.subspan(used, header.size())));
    used += header.size();
    require(std::ranges::equal(frame->payload, plain.subspan(used, frame->payload.size())));
    used += frame->payload.size();
  }
}

void any_plaintext(ByteView bytes, bool farewell) {
  if (bytes.empty()) return;
  const std::size_t piece = 1 + std::to_integer<std::size_t>(bytes[0]) * 4;
  const ByteView plain = bytes.subspan(1);
  Sockets s = sockets();
  std::optional<SecureChannel> channel;
  std::thread acceptor([&] {
    auto opened = SecureChannel::open(std::move(s.channel), ChannelRole::kAcceptor, kKey, 5s);
    require(opened.ok());
    channel = *std::move(opened);
    check_frames(*channel, plain, farewell);
  });
  {
    testing::RawDialler dialler(s.wire.get(), kKey);
    require(dialler.connect());
    for (std::size_t at = 0; at < plain.size(); at += piece)
      if (!dialler.write(plain.subspan(at, std::min(piece, plain.size() - at)))) break;
    if (farewell) dialler.close();
  }
  ::shutdown(s.wire.get(), SHUT_WR);
  acceptor.join();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      no_handshake(bytes, ChannelRole::kAcceptor);
      break;
    case 1:
      no_handshake(bytes, ChannelRole::kDialler);
      break;
    case 2:
      any_plaintext(bytes, true);
      break;
    case 3:
      any_plaintext(bytes, false);
      break;
  }
  return 0;
}
