#include "common/secure_channel.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <csignal>
#include <future>
#include <thread>
#include <utility>

#include "tests/fuzz/raw_dialler.h"

namespace drover {
namespace {

using namespace std::chrono_literals;
using SocketPair = std::pair<OwnedFd, OwnedFd>;

ChannelKey key_of(int seed) {
  ChannelKey key;
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = std::byte(seed + int(i) * 7);
  return key;
}

SocketPair unix_pair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {OwnedFd(fds[0]), OwnedFd(fds[1])};
}

SocketPair tcp_pair() {
  OwnedFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const a = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), a, size), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), a, &size), 0);
  OwnedFd dialler(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(dialler.get(), a, size), 0);
  OwnedFd acceptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(acceptor.valid());
  return {std::move(dialler), std::move(acceptor)};
}

using Opened = Result<SecureChannel>;

std::future<Opened> open_acceptor(OwnedFd socket, const ChannelKey& key,
                                  std::chrono::milliseconds timeout = 5s) {
  return std::async(std::launch::async, [socket = std::move(socket), key, timeout]() mutable {
    return SecureChannel::open(std::move(socket), ChannelRole::kAcceptor, key, timeout);
  });
}

struct Channels {
  SecureChannel dialler;
  SecureChannel acceptor;
};

Channels open_channels(SocketPair sockets) {
  auto acceptor = open_acceptor(std::move(sockets.second), key_of(1));
  auto dialler =
      SecureChannel::open(std::move(sockets.first), ChannelRole::kDialler, key_of(1), 5s);
  auto accepted = acceptor.get();
  if (!dialler || !accepted)
    throw std::runtime_error((dialler ? accepted : dialler).error().message());
  return {*std::move(dialler), *std::move(accepted)};
}

Bytes pattern(std::size_t size, unsigned seed = 1) {
  Bytes data(size);
  std::uint32_t x = seed * 2654435761u + 1;
  for (std::byte& b : data) {
    x = x * 1664525u + 1013904223u;
    b = std::byte(x >> 24);
  }
  return data;
}

void write_all(int fd, ByteView data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    data = data.subspan(std::size_t(n));
  }
}

/// Copies what `from` gets to `to`, until the end, and keeps it.
Bytes relay(int from, int to) {
  Bytes all;
  std::byte buffer[65536];
  ssize_t n;
  while ((n = ::recv(from, buffer, sizeof buffer, 0)) > 0) {
    all.insert(all.end(), buffer, buffer + n);
    write_all(to, {buffer, std::size_t(n)});
  }
  ::shutdown(to, SHUT_WR);
  return all;
}

struct Recording {
  Bytes from_dialler;
  Bytes from_acceptor;
  std::size_t handshake_of_dialler = 0;
  std::size_t handshake_of_acceptor = 0;
};

/// A session in which the dialler sends one frame, as it looks on the network.
Recording record_session() {
  auto [dialler_end, dialler_wire] = unix_pair();
  auto [acceptor_end, acceptor_wire] = unix_pair();
  auto forth = std::async(std::launch::async, relay, dialler_wire.get(), acceptor_wire.get());
  auto back = std::async(std::launch::async, relay, acceptor_wire.get(), dialler_wire.get());
  Recording recording;
  {
    Channels c = open_channels({std::move(dialler_end), std::move(acceptor_end)});
    recording.handshake_of_dialler = c.dialler.bytes_sent();
    recording.handshake_of_acceptor = c.acceptor.bytes_sent();
    EXPECT_TRUE(c.dialler.send(7, as_bytes("pay once")));
    EXPECT_TRUE(c.acceptor.receive_within(5s));
    EXPECT_TRUE(c.dialler.close());
    EXPECT_TRUE(c.acceptor.close());
  }
  recording.from_dialler = forth.get();
  recording.from_acceptor = back.get();
  return recording;
}

/// What a new side does with bytes that were recorded, and then the end.
Opened play(ByteView bytes, ChannelRole role) {
  auto [end, wire] = unix_pair();
  write_all(wire.get(), bytes);
  ::shutdown(wire.get(), SHUT_WR);
  return SecureChannel::open(std::move(end), role, key_of(1), 5s);
}

TEST(SecureChannel, FramesArriveAsSent) {
  for (auto make : {unix_pair, tcp_pair}) {
    Channels c = open_channels(make());
    for (std::size_t size : {0u, 1u, 7u, 16375u, 16376u, 16377u, 40000u, 1u << 20}) {
      const Bytes head = pattern(13, 2), body = pattern(size, unsigned(size));
      auto sent = std::async(std::launch::async,
                             [&] { return c.dialler.send(std::uint16_t(size), head, body).ok(); });
      auto frame = c.acceptor.receive_within(10s);
      EXPECT_TRUE(sent.get());
      ASSERT_TRUE(frame) << frame.error().message();
      EXPECT_EQ(frame->type, std::uint16_t(size));
      Bytes whole = head;
      whole.insert(whole.end(), body.begin(), body.end());
      EXPECT_EQ(frame->payload, whole) << size;
    }
  }
}

TEST(SecureChannel, AHeadLargerThanARecordArrivesWhole) {
  Channels c = open_channels(tcp_pair());
  const Bytes head = pattern(100'000, 3), body = pattern(5, 4);
  ASSERT_TRUE(c.dialler.send(1, head, body));
  auto frame = c.acceptor.receive_within(5s);
  ASSERT_TRUE(frame);
  Bytes whole = head;
  whole.insert(whole.end(), body.begin(), body.end());
  EXPECT_EQ(frame->payload, whole);
}

TEST(SecureChannel, ReceiveGivesNothingWhenNothingCame) {
  Channels c = open_channels(tcp_pair());
  auto nothing = c.acceptor.receive();
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  auto late = c.acceptor.receive_within(30ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ETIMEDOUT);
  ASSERT_TRUE(c.dialler.send(3, as_bytes("later")));
  auto frame = c.acceptor.receive_within(5s);
  ASSERT_TRUE(frame) << "a timeout does not end the channel";
  EXPECT_EQ(frame->type, 3);
}

TEST(SecureChannel, PollIsRightOnceReceiveIsDrained) {
  Channels c = open_channels(unix_pair());
  constexpr int kFrames = 5000;
  std::thread sender([&] {
    for (int i = 0; i < kFrames; ++i)
      ASSERT_TRUE(c.dialler.send(std::uint16_t(i), pattern(std::size_t(i % 300))));
  });
  int seen = 0;
  while (seen < kFrames) {
    pollfd p{c.acceptor.poll_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&p, 1, 5000), 1) << "frames were left behind after " << seen;
    while (true) {
      auto frame = c.acceptor.receive();
      ASSERT_TRUE(frame);
      if (!*frame) break;
      ASSERT_EQ((*frame)->type, std::uint16_t(seen));
      ASSERT_EQ((*frame)->payload, pattern(std::size_t(seen % 300)));
      ++seen;
    }
  }
  sender.join();
}

TEST(SecureChannel, BothSidesSend64MiBAtOnce) {
  for (auto make : {unix_pair, tcp_pair}) {
    Channels c = open_channels(make());
    const Bytes body = pattern(16 << 20);
    const auto run = [&body](SecureChannel& channel) {
      for (int i = 0; i < 4; ++i) {
        const Status sent = channel.send(std::uint16_t(i), {}, body);
        if (!sent) return sent.error().message();
      }
      for (int i = 0; i < 4; ++i) {
        auto frame = channel.receive_within(20s);
        if (!frame) return frame.error().message();
        if (frame->type != i || frame->payload != body) return std::string("wrong frame");
      }
      return std::string();
    };
    auto other = std::async(std::launch::async, run, std::ref(c.acceptor));
    EXPECT_EQ(run(c.dialler), "");
    EXPECT_EQ(other.get(), "");
  }
}

TEST(SecureChannel, ThousandsOfRoundTripsBothWays) {
  Channels c = open_channels(tcp_pair());
  std::thread echo([&] {
    for (int i = 0; i < 5000; ++i) {
      auto frame = c.acceptor.receive_within(5s);
      ASSERT_TRUE(frame);
      ASSERT_TRUE(c.acceptor.send(frame->type, frame->payload));
    }
  });
  for (int i = 0; i < 5000; ++i) {
    const Bytes data = pattern(64, unsigned(i));
    ASSERT_TRUE(c.dialler.send(9, data));
    auto frame = c.dialler.receive_within(5s);
    ASSERT_TRUE(frame);
    ASSERT_EQ(frame->payload, data);
  }
  echo.join();
  EXPECT_GT(c.dialler.bytes_sent(), 5000u * 64);
  EXPECT_EQ(c.dialler.bytes_sent(), c.acceptor.bytes_received());
}

TEST(SecureChannel, AWrongKeyIsRefusedOnBothSides) {
  auto sockets = tcp_pair();
  auto acceptor = open_acceptor(std::move(sockets.second), key_of(1));
  auto dialler =
      SecureChannel::open(std::move(sockets.first), ChannelRole::kDialler, key_of(2), 5s);
  EXPECT_FALSE(dialler);
  auto accepted = acceptor.get();
  ASSERT_FALSE(accepted);
  EXPECT_EQ(accepted.error().message().find('\n'), std::string::npos);
}

TEST(SecureChannel, AKeyUnderAnotherNameIsRefused) {
  auto [end, wire] = unix_pair();
  auto acceptor = open_acceptor(std::move(end), key_of(1));
  testing::RawDialler dialler(wire.get(), key_of(1), "drover channel 9");
  EXPECT_FALSE(dialler.connect());
  EXPECT_FALSE(acceptor.get());
}

TEST(SecureChannel, TwoDiallersOrTwoAcceptorsFail) {
  for (ChannelRole role : {ChannelRole::kDialler, ChannelRole::kAcceptor}) {
    auto [a, b] = unix_pair();
    auto other = std::async(std::launch::async, [&, fd = std::move(b)]() mutable {
      return SecureChannel::open(std::move(fd), role, key_of(1), 200ms);
    });
    EXPECT_FALSE(SecureChannel::open(std::move(a), role, key_of(1), 200ms));
    EXPECT_FALSE(other.get());
  }
}

TEST(SecureChannel, GarbageInsteadOfAHandshakeIsAnError) {
  for (unsigned seed = 0; seed < 200; ++seed)
    for (ChannelRole role : {ChannelRole::kDialler, ChannelRole::kAcceptor})
      EXPECT_FALSE(play(pattern(seed * 3, seed), role));
}

TEST(SecureChannel, ASilentPeerTimesOut) {
  auto [a, b] = tcp_pair();
  const auto before = std::chrono::steady_clock::now();
  auto channel = SecureChannel::open(std::move(a), ChannelRole::kAcceptor, key_of(1), 100ms);
  ASSERT_FALSE(channel);
  EXPECT_EQ(channel.error().code, ETIMEDOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 2s);
}

TEST(SecureChannel, AnInvalidSocketIsAnError) {
  EXPECT_FALSE(SecureChannel::open(OwnedFd(), ChannelRole::kDialler, key_of(1), 1s));
}

TEST(SecureChannel, AHandshakeCutOffAtAnyByteIsAnError) {
  const Recording r = record_session();
  ASSERT_GT(r.handshake_of_dialler, 100u);
  ASSERT_GT(r.handshake_of_acceptor, 100u);
  for (std::size_t n = 0; n <= r.handshake_of_dialler; ++n)
    EXPECT_FALSE(play(ByteView(r.from_dialler).first(n), ChannelRole::kAcceptor)) << n;
  for (std::size_t n = 0; n <= r.handshake_of_acceptor; ++n)
    EXPECT_FALSE(play(ByteView(r.from_acceptor).first(n), ChannelRole::kDialler)) << n;
}

TEST(SecureChannel, AReplayedSessionIsRefused) {
  const Recording r = record_session();
  EXPECT_FALSE(play(r.from_dialler, ChannelRole::kAcceptor));
  EXPECT_FALSE(play(r.from_acceptor, ChannelRole::kDialler));
}

/// How far the acceptor of a live session gets when `meddle(bytes, offset)` may change the
/// dialler's bytes on their way; false from it ends the connection there.
enum class Reached { kNothing, kChannel, kFrame };
template <class Meddle>
Reached meddled_session(Meddle meddle, std::chrono::milliseconds patience = 10s) {
  auto [dialler_end, dialler_wire] = unix_pair();
  auto [acceptor_end, acceptor_wire] = unix_pair();
  auto back = std::async(std::launch::async, relay, acceptor_wire.get(), dialler_wire.get());
  // Clang 14 captures structured bindings by their names only.
  const auto forward = [&, &dialler_wire = dialler_wire, &acceptor_wire = acceptor_wire] {
    std::byte b;
    std::size_t at = 0;
    while (::recv(dialler_wire.get(), &b, 1, 0) == 1 && meddle(b, at++))
      write_all(acceptor_wire.get(), {&b, 1});
    ::shutdown(acceptor_wire.get(), SHUT_WR);
    while (::recv(dialler_wire.get(), &b, 1, 0) == 1) {
    }
  };
  auto forth = std::async(std::launch::async, forward);
  Reached reached = Reached::kNothing;
  {
    auto acceptor = open_acceptor(std::move(acceptor_end), key_of(1), patience);
    {
      auto dialler =
          SecureChannel::open(std::move(dialler_end), ChannelRole::kDialler, key_of(1), patience);
      if (dialler) static_cast<void>(dialler->send(7, as_bytes("pay once")).ok());
    }
    auto channel = acceptor.get();
    if (channel) reached = channel->receive_within(patience) ? Reached::kFrame : Reached::kChannel;
  }
  ::shutdown(dialler_wire.get(), SHUT_RDWR);
  ::shutdown(acceptor_wire.get(), SHUT_RDWR);
  forth.get();
  back.get();
  return reached;
}

TEST(SecureChannel, ASessionWithAnyByteChangedEndsThere) {
  const Recording r = record_session();
  const std::size_t frame_end = r.handshake_of_dialler + 5 + 8 + 8 + 1 + 16;
  // Byte 2, the record version of the first message, must be ignored (RFC 8446, 5.1).
  for (std::size_t change = 0; change < frame_end; change += change == 1 ? 2 : 1) {
    const bool in_handshake = change < r.handshake_of_dialler;
    const auto flip = [change](std::byte& b, std::size_t at) {
      if (at == change) b ^= std::byte{0x10};
      return true;
    };
    // A changed length makes both sides wait for the other.
    const Reached reached = meddled_session(flip, in_handshake ? 100ms : 10s);
    EXPECT_EQ(reached, in_handshake ? Reached::kNothing : Reached::kChannel) << "byte " << change;
  }
}

TEST(SecureChannel, ASessionCutOffAtAnyByteEndsThere) {
  const Recording r = record_session();
  const std::size_t frame_end = r.handshake_of_dialler + 5 + 8 + 8 + 1 + 16;
  for (std::size_t cut = 0; cut <= frame_end; ++cut) {
    const Reached reached = meddled_session([cut](std::byte&, std::size_t at) { return at < cut; });
    EXPECT_EQ(reached, cut < r.handshake_of_dialler ? Reached::kNothing
                       : cut < frame_end            ? Reached::kChannel
                                                    : Reached::kFrame)
        << "byte " << cut;
  }
}

TEST(SecureChannel, BytesReplayedInsideASessionEndIt) {
  auto [dialler_end, dialler_wire] = unix_pair();
  auto [acceptor_end, acceptor_wire] = unix_pair();
  auto back = std::async(std::launch::async, relay, acceptor_wire.get(), dialler_wire.get());
  std::atomic<bool> twice = false;
  // Clang 14 captures structured bindings by their names only.
  const auto forward = [&, &dialler_wire = dialler_wire, &acceptor_wire = acceptor_wire] {
    std::byte buffer[4096];
    ssize_t n;
    while ((n = ::recv(dialler_wire.get(), buffer, sizeof buffer, 0)) > 0) {
      // Asked before: the end of the handshake lets the test go on, and is not to be repeated.
      const bool repeat = twice;
      write_all(acceptor_wire.get(), {buffer, std::size_t(n)});
      if (repeat) write_all(acceptor_wire.get(), {buffer, std::size_t(n)});
    }
    ::shutdown(acceptor_wire.get(), SHUT_WR);
  };
  auto forth = std::async(std::launch::async, forward);
  {
    Channels c = open_channels({std::move(dialler_end), std::move(acceptor_end)});
    twice = true;
    ASSERT_TRUE(c.dialler.send(1, as_bytes("pay once")));
    ASSERT_TRUE(c.acceptor.receive_within(5s));
    auto again = c.acceptor.receive_within(5s);
    ASSERT_FALSE(again) << "the second copy must not become a frame";
    EXPECT_NE(again.error().code, ETIMEDOUT);
    EXPECT_FALSE(c.acceptor.receive()) << "the error stays";
    EXPECT_FALSE(c.acceptor.send(1, as_bytes("no more")));
    EXPECT_FALSE(c.acceptor.peer_closed());
  }
  forth.get();
  back.get();
}

TEST(SecureChannel, OversizedFramesAreRefusedOnBothSides) {
  Channels c = open_channels(tcp_pair());
  const Bytes too_large(kMaxFrame + 1);
  EXPECT_FALSE(c.dialler.send(1, {}, too_large));
  EXPECT_FALSE(c.dialler.send(1, too_large));
  EXPECT_TRUE(c.dialler.send(1, as_bytes("fits"))) << "a refused frame leaves the channel usable";
  EXPECT_TRUE(c.acceptor.receive_within(5s));

  const auto announce = [](std::array<std::byte, 8> header) {
    auto [end, wire] = unix_pair();
    auto acceptor = open_acceptor(std::move(end), key_of(1));
    testing::RawDialler dialler(wire.get(), key_of(1));
    EXPECT_TRUE(dialler.connect());
    auto channel = acceptor.get();
    EXPECT_TRUE(channel);
    EXPECT_TRUE(dialler.write(header));
    return channel ? channel->receive_within(300ms) : channel.error();
  };
  auto oversized = announce(frame_header(1, kMaxFrame + 1));
  ASSERT_FALSE(oversized);
  EXPECT_NE(oversized.error().code, ETIMEDOUT);
  auto huge = announce(frame_header(1, 0xffffffff));
  ASSERT_FALSE(huge);
  EXPECT_NE(huge.error().code, ETIMEDOUT);
  auto header = frame_header(1, 4);
  header[7] = std::byte{1};
  auto malformed = announce(header);
  ASSERT_FALSE(malformed);
  EXPECT_NE(malformed.error().code, ETIMEDOUT);
  auto largest = announce(frame_header(1, kMaxFrame));
  ASSERT_FALSE(largest);
  EXPECT_EQ(largest.error().code, ETIMEDOUT) << "the largest size that is allowed";
}

TEST(SecureChannel, AFrameInOneByteRecordsArrivesWhole) {
  auto [end, wire] = unix_pair();
  auto acceptor = open_acceptor(std::move(end), key_of(1));
  testing::RawDialler dialler(wire.get(), key_of(1));
  ASSERT_TRUE(dialler.connect());
  auto channel = acceptor.get();
  ASSERT_TRUE(channel);
  WireWriter w;
  w.raw(frame_header(5, 6));
  w.raw(as_bytes("abcdef"));
  for (std::byte b : w.data()) ASSERT_TRUE(dialler.write({&b, 1}));
  auto frame = channel->receive_within(5s);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->payload.size(), 6u);
}

TEST(SecureChannel, AFarewellIsToldFromABrokenConnection) {
  {
    Channels c = open_channels(tcp_pair());
    ASSERT_TRUE(c.dialler.send(1, as_bytes("last words")));
    ASSERT_TRUE(c.dialler.close());
    EXPECT_FALSE(c.dialler.send(1, {}));
    EXPECT_TRUE(c.acceptor.receive_within(5s));
    EXPECT_FALSE(c.acceptor.peer_closed());
    EXPECT_FALSE(c.acceptor.receive_within(5s));
    EXPECT_TRUE(c.acceptor.peer_closed());
    EXPECT_TRUE(c.acceptor.send(2, as_bytes("answer"))) << "the closer may still listen";
    EXPECT_TRUE(c.dialler.receive_within(5s));
  }
  {
    Channels c = open_channels(tcp_pair());
    ASSERT_TRUE(c.dialler.send(1, as_bytes("last words")));
    { SecureChannel gone = std::move(c.dialler); }
    EXPECT_TRUE(c.acceptor.receive_within(5s));
    EXPECT_FALSE(c.acceptor.receive_within(5s));
    EXPECT_FALSE(c.acceptor.peer_closed());
  }
}

TEST(SecureChannel, AFarewellInsideAFrameIsABrokenConnection) {
  auto [end, wire] = unix_pair();
  auto acceptor = open_acceptor(std::move(end), key_of(1));
  testing::RawDialler dialler(wire.get(), key_of(1));
  ASSERT_TRUE(dialler.connect());
  auto channel = acceptor.get();
  ASSERT_TRUE(channel);
  ASSERT_TRUE(dialler.write(frame_header(1, 100)));
  ASSERT_TRUE(dialler.close());
  EXPECT_FALSE(channel->receive_within(5s));
  EXPECT_FALSE(channel->peer_closed());
}

TEST(SecureChannel, SendingToAPeerThatIsGoneIsAnErrorNotASignal) {
  std::signal(SIGPIPE, SIG_DFL);
  for (auto make : {unix_pair, tcp_pair}) {
    Channels c = open_channels(make());
    { SecureChannel gone = std::move(c.acceptor); }
    const Bytes data = pattern(100'000);
    Status sent;
    for (int i = 0; i < 100 && sent; ++i) sent = c.dialler.send(1, data);
    EXPECT_FALSE(sent);
  }
}

TEST(SecureChannel, WhatHasNotLeftWhenItIsAbortedNeverDoes) {
  Channels c = open_channels(tcp_pair());
  c.dialler.allow_stall(100ms);
  const Bytes data = pattern(100'000);
  int sent = 0;
  while (c.dialler.send(1, data)) ++sent;  // nobody reads
  c.dialler.abort();
  EXPECT_FALSE(c.dialler.send(1, data));
  EXPECT_FALSE(c.dialler.receive());
  EXPECT_EQ(c.dialler.poll_fd(), -1);
  int received = 0;
  while (c.acceptor.receive_within(5s)) ++received;
  EXPECT_LT(received, sent);
  EXPECT_FALSE(c.acceptor.peer_closed());
}

TEST(SecureChannel, AMovedFromChannelOnlyGivesErrors) {
  Channels c = open_channels(unix_pair());
  SecureChannel moved = std::move(c.dialler);
  EXPECT_FALSE(c.dialler.send(1, {}));
  EXPECT_FALSE(c.dialler.receive());
  EXPECT_FALSE(c.dialler.receive_within(1ms));
  EXPECT_FALSE(c.dialler.close());
  EXPECT_EQ(c.dialler.poll_fd(), -1);
  ASSERT_TRUE(moved.send(1, as_bytes("x")));
  EXPECT_TRUE(c.acceptor.receive_within(5s));
}

TEST(SecureChannel, AKeyUpdateByThePeerIsFollowed) {
  auto [end, wire] = unix_pair();
  auto acceptor = open_acceptor(std::move(end), key_of(1));
  testing::RawDialler dialler(wire.get(), key_of(1));
  ASSERT_TRUE(dialler.connect());
  auto channel = acceptor.get();
  ASSERT_TRUE(channel);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(SSL_key_update(dialler.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_TRUE(dialler.write(frame_header(std::uint16_t(i), 0)));
    auto frame = channel->receive_within(5s);
    ASSERT_TRUE(frame) << frame.error().message();
    ASSERT_TRUE(channel->send(1, as_bytes("new key")));
    char answer[64];
    ASSERT_GT(SSL_read(dialler.ssl(), answer, sizeof answer), 0);
  }
}

}  // namespace
}  // namespace drover
