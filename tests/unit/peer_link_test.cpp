#include "common/peer_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

namespace drover {
namespace {

using namespace std::chrono_literals;
using Progress = PeerLink::Progress;

Ed25519Key new_key() { return *Ed25519Key::generate(); }

std::pair<OwnedFd, OwnedFd> unix_pair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {OwnedFd(fds[0]), OwnedFd(fds[1])};
}

PeerLink::FindPeer members(std::map<Ed25519PublicKey, std::string> names) {
  return [names](std::span<const std::byte, 32> key) -> std::optional<std::string> {
    Ed25519PublicKey k;
    std::copy(key.begin(), key.end(), k.begin());
    const auto it = names.find(k);
    return it == names.end() ? std::nullopt : std::optional(it->second);
  };
}

struct Pair {
  PeerLink dialler;
  PeerLink acceptor;
};

struct Ends {
  Ed25519Key dialler = new_key();
  Ed25519Key acceptor = new_key();
};

Pair begin(const Ends& ends, const Ed25519PublicKey& expected, PeerLink::FindPeer find) {
  auto [a, b] = unix_pair();
  auto dialler = PeerLink::dial(std::move(a), ends.dialler, "n2", expected);
  auto acceptor = PeerLink::accept(std::move(b), ends.acceptor, std::move(find));
  if (!dialler || !acceptor) throw std::runtime_error("begin a link");
  return {*std::move(dialler), *std::move(acceptor)};
}

/// Steps both sides in turn; what each ends with.
std::pair<Result<Progress>, Result<Progress>> run(Pair& p) {
  Result<Progress> d = Progress::kConnecting, a = Progress::kConnecting;
  for (int i = 0; i < 20; ++i) {
    if (d) d = p.dialler.step();
    if (a) a = p.acceptor.step();
  }
  return {d, a};
}

Pair established() {
  const Ends ends;
  Pair p = begin(ends, ends.acceptor.public_key(), members({{ends.dialler.public_key(), "n1"}}));
  const auto [d, a] = run(p);
  if (!d || !a) throw std::runtime_error((d ? a : d).error().message());
  return p;
}

TEST(PeerLink, BothSidesKnowEachOther) {
  const Ends ends;
  Pair p = begin(ends, ends.acceptor.public_key(), members({{ends.dialler.public_key(), "n1"}}));
  EXPECT_EQ(p.dialler.peer_name(), "");
  const auto [d, a] = run(p);
  ASSERT_TRUE(d) << d.error().message();
  ASSERT_TRUE(a) << a.error().message();
  EXPECT_EQ(*d, Progress::kEstablished);
  EXPECT_EQ(*a, Progress::kEstablished);
  EXPECT_EQ(p.dialler.peer_name(), "n2");
  EXPECT_EQ(p.acceptor.peer_name(), "n1");
  EXPECT_EQ(p.dialler.peer_key(), ends.acceptor.public_key());
  EXPECT_EQ(p.acceptor.peer_key(), ends.dialler.public_key());
  EXPECT_FALSE(p.dialler.wants_write());
}

TEST(PeerLink, AStepNeverWaits) {
  auto [a, b] = unix_pair();
  auto link = PeerLink::dial(std::move(a), new_key(), "n2", new_key().public_key());
  ASSERT_TRUE(link);
  const auto before = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) {
    auto progress = link->step();
    ASSERT_TRUE(progress);
    EXPECT_EQ(*progress, Progress::kConnecting);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - before, 1s);
}

TEST(PeerLink, DerivedKeysAreTheSameOnBothSidesAndDifferFromEachOther) {
  Pair p = established();
  std::set<ChannelKey> keys;
  for (const char* label : {"body", "hop"}) {
    for (const char* context : {"", "job 1 epoch 1", "job 1 epoch 2"}) {
      auto d = p.dialler.derive_key(label, as_bytes(context));
      auto a = p.acceptor.derive_key(label, as_bytes(context));
      ASSERT_TRUE(d && a);
      EXPECT_EQ(*d, *a);
      keys.insert(*d);
    }
  }
  Pair other = established();
  keys.insert(*other.dialler.derive_key("body", as_bytes("job 1 epoch 1")));
  EXPECT_EQ(keys.size(), 7u);
}

TEST(PeerLink, ADerivedKeyOpensASecureChannel) {
  Pair p = established();
  auto [x, y] = unix_pair();
  std::thread acceptor([&, y = std::move(y)]() mutable {
    auto key = p.acceptor.derive_key("body", as_bytes("1"));
    auto c = SecureChannel::open(std::move(y), ChannelRole::kAcceptor, *key, 5s);
    ASSERT_TRUE(c);
    auto frame = c->receive_within(5s);
    EXPECT_TRUE(frame);
  });
  auto key = p.dialler.derive_key("body", as_bytes("1"));
  auto c = SecureChannel::open(std::move(x), ChannelRole::kDialler, *key, 5s);
  ASSERT_TRUE(c);
  EXPECT_TRUE(c->send(1, as_bytes("hello")));
  acceptor.join();
}

TEST(PeerLink, NoKeyIsDerivedBeforeItIsEstablished) {
  const Ends ends;
  Pair p = begin(ends, ends.acceptor.public_key(), members({{ends.dialler.public_key(), "n1"}}));
  EXPECT_FALSE(p.dialler.derive_key("body", {}));
  EXPECT_FALSE(p.acceptor.derive_key("body", {}));
}

TEST(PeerLink, AnAcceptorThatIsNotWhoWasDialledIsRefused) {
  const Ends ends;
  Pair p = begin(ends, new_key().public_key(), members({{ends.dialler.public_key(), "n1"}}));
  const auto [d, a] = run(p);
  ASSERT_FALSE(d);
  EXPECT_NE(d.error().message().find("not n2"), std::string::npos) << d.error().message();
  EXPECT_FALSE(a);
  EXPECT_FALSE(p.acceptor.established());
}

TEST(PeerLink, ADiallerThatIsNoMemberIsRefusedAndNeverEstablished) {
  const Ends ends;
  Pair p = begin(ends, ends.acceptor.public_key(), members({{new_key().public_key(), "n1"}}));
  Result<Progress> d = Progress::kConnecting, a = Progress::kConnecting;
  for (int i = 0; i < 20; ++i) {
    if (d) d = p.dialler.step();
    EXPECT_FALSE(p.dialler.established());
    if (a) a = p.acceptor.step();
  }
  ASSERT_FALSE(a);
  EXPECT_NE(a.error().message().find("no member"), std::string::npos) << a.error().message();
  ASSERT_FALSE(d);
  EXPECT_EQ(d.error().message().find('\n'), std::string::npos);
  EXPECT_FALSE(p.dialler.derive_key("body", {}));
}

TEST(PeerLink, AnExceptionInTheLookupRefuses) {
  const Ends ends;
  Pair p = begin(ends, ends.acceptor.public_key(),
                 [](auto) -> std::optional<std::string> { throw std::runtime_error("no list"); });
  const auto [d, a] = run(p);
  EXPECT_FALSE(d);
  EXPECT_FALSE(a);
}

TEST(PeerLink, AFarewellAndABrokenConnectionAreBothNoticed) {
  for (bool orderly : {true, false}) {
    Pair p = established();
    {
      PeerLink gone = std::move(p.acceptor);
      if (orderly) gone.close();
    }
    auto progress = p.dialler.step();
    ASSERT_FALSE(progress);
    EXPECT_EQ(progress.error().message().find("closed") != std::string::npos, orderly)
        << progress.error().message();
    EXPECT_FALSE(p.dialler.step()) << "over stays over";
    EXPECT_FALSE(p.dialler.established());
    EXPECT_FALSE(p.dialler.derive_key("body", {}));
  }
}

TEST(PeerLink, AMovedFromLinkOnlyGivesErrors) {
  Pair p = established();
  PeerLink moved = std::move(p.dialler);
  EXPECT_FALSE(p.dialler.step());
  EXPECT_FALSE(p.dialler.derive_key("body", {}));
  EXPECT_EQ(p.dialler.fd(), -1);
  p.dialler.close();
  EXPECT_TRUE(moved.step());
}

TEST(PeerLink, TheSocketMayStillBeConnecting) {
  OwnedFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const a = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), a, size), 0);
  ASSERT_EQ(::getsockname(listener.get(), a, &size), 0);
  OwnedFd refused(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  static_cast<void>(::connect(refused.get(), a, size));  // nobody listens yet
  auto nobody = PeerLink::dial(std::move(refused), new_key(), "n2", new_key().public_key());
  ASSERT_TRUE(nobody);
  Result<Progress> progress = Progress::kConnecting;
  for (int i = 0; i < 100 && progress; ++i) {
    progress = nobody->step();
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_FALSE(progress);

  ASSERT_EQ(::listen(listener.get(), 1), 0);
  OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  static_cast<void>(::connect(socket.get(), a, size));
  const Ends ends;
  auto dialler = PeerLink::dial(std::move(socket), ends.dialler, "n2", ends.acceptor.public_key());
  ASSERT_TRUE(dialler);
  ASSERT_TRUE(dialler->step());
  auto acceptor = PeerLink::accept(OwnedFd(::accept(listener.get(), nullptr, nullptr)),
                                   ends.acceptor, members({{ends.dialler.public_key(), "n1"}}));
  ASSERT_TRUE(acceptor);
  for (int i = 0; i < 200 && !dialler->established(); ++i) {
    ASSERT_TRUE(dialler->step());
    ASSERT_TRUE(acceptor->step());
  }
  EXPECT_TRUE(dialler->established());
}

TEST(PeerLink, GarbageAtAnyTimeIsAnError) {
  for (unsigned seed = 1; seed < 300; ++seed) {
    auto [end, wire] = unix_pair();
    Bytes garbage(seed);
    std::uint32_t x = seed;
    for (std::byte& b : garbage) b = std::byte((x = x * 1664525u + 1013904223u) >> 24);
    ASSERT_EQ(::send(wire.get(), garbage.data(), garbage.size(), 0), ssize_t(seed));
    wire.reset();
    auto link = seed % 2 ? PeerLink::accept(std::move(end), new_key(), members({}))
                         : PeerLink::dial(std::move(end), new_key(), "n2", new_key().public_key());
    ASSERT_TRUE(link);
    Result<Progress> progress = Progress::kConnecting;
    for (int i = 0; i < 5 && progress; ++i) progress = link->step();
    EXPECT_FALSE(progress);
  }
  Pair p = established();
  ASSERT_GT(::send(p.acceptor.fd(), "noise", 5, 0), 0);
  ASSERT_GT(::send(p.acceptor.fd(), "noise", 5, 0), 0);
  EXPECT_FALSE(p.dialler.step());
}

/// Both sides' bytes go through here; `change` is flipped, counting what the dialler sends.
bool establishes_with_change(std::size_t change, std::size_t* total) {
  const Ends ends;
  auto [d, d_wire] = unix_pair();
  auto [a, a_wire] = unix_pair();
  auto dialler = PeerLink::dial(std::move(d), ends.dialler, "n2", ends.acceptor.public_key());
  auto acceptor =
      PeerLink::accept(std::move(a), ends.acceptor, members({{ends.dialler.public_key(), "n1"}}));
  std::size_t seen = 0;
  const auto pass = [&](int from, int to, bool count) {
    std::byte buffer[8192];
    const ssize_t n = ::recv(from, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0) return;
    if (count && change >= seen && change < seen + std::size_t(n))
      buffer[change - seen] ^= std::byte{4};
    if (count) seen += std::size_t(n);
    EXPECT_EQ(::send(to, buffer, std::size_t(n), MSG_NOSIGNAL), n);
  };
  for (int i = 0; i < 8; ++i) {
    if (!dialler->step() || !acceptor->step()) return false;
    pass(d_wire.get(), a_wire.get(), true);
    pass(a_wire.get(), d_wire.get(), false);
  }
  *total = seen;
  return dialler->established() && acceptor->established();
}

TEST(PeerLink, AHandshakeWithAnyByteChangedIsNotEstablished) {
  std::size_t total = 0;
  ASSERT_TRUE(establishes_with_change(SIZE_MAX, &total));
  ASSERT_GT(total, 300u);
  for (std::size_t at = 0; at < total; at += 3) {
    std::size_t ignored = 0;
    EXPECT_FALSE(establishes_with_change(at, &ignored)) << "byte " << at;
  }
}

}  // namespace
}  // namespace drover
