#include "common/control_bus.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <random>
#include <thread>
#include <zmq.hpp>

#include "common/owned_fd.h"

namespace drover {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::string text_of(const BusMessage& message) {
  return {reinterpret_cast<const char*>(message.payload.data()), message.payload.size()};
}

/// An address of this process alone, so that no other program's connections take its ports.
const std::string& host() {
  static const std::string address = "127." + std::to_string(1 + (::getpid() >> 16) % 250) + "." +
                                     std::to_string((::getpid() >> 8) & 255) + "." +
                                     std::to_string(1 + (::getpid() & 255) % 254);
  return address;
}

sockaddr_in address_of(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, host().c_str(), &address.sin_addr);
  address.sin_port = htons(port);
  return address;
}

std::string endpoint_of(std::uint16_t port) {
  return "tcp://" + host() + ":" + std::to_string(port);
}

/// A port below those that the kernel gives out, never the same twice.
std::uint16_t free_port() {
  static std::uint16_t next = 20000;
  return next++;
}

OwnedFd listening_socket(std::uint16_t port) {
  OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(port);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd.get(), 16), 0);
  return fd;
}

OwnedFd tcp_to(std::uint16_t port) {
  OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(port);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

/// Whether the other side closes the connection within `timeout`.
bool closes(const OwnedFd& fd, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  char buffer[4096];
  while (Clock::now() < deadline) {
    pollfd item{fd.get(), POLLIN, 0};
    if (::poll(&item, 1, 50) > 0 && ::recv(fd.get(), buffer, sizeof buffer, 0) <= 0) return true;
  }
  return false;
}

/// A node of the test: its keys and its bus.
struct Node {
  std::string name;
  NodeKeys keys = *NodeKeys::generate();
  std::uint16_t port = free_port();
  std::optional<ControlBus> bus{};

  NodeKeyLine line() const { return {name, keys.public_keys(), "lab", {{host(), 1, port}}}; }
  void open(const std::shared_ptr<const Membership>& members) {
    auto opened = ControlBus::open(keys, members, host(), port);
    ASSERT_TRUE(opened) << opened.error().message();
    bus.emplace(*std::move(opened));
    EXPECT_EQ(bus->port(), port);
  }
  std::optional<BusMessage> wait(std::chrono::milliseconds timeout = 5s) {
    const auto deadline = Clock::now() + timeout;
    for (;;) {
      if (auto message = bus->receive()) return message;
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      if (left <= 0ms) return std::nullopt;
      pollfd item{bus->poll_fd(), POLLIN, 0};
      ::poll(&item, 1, static_cast<int>(left.count()));
    }
  }
  void expect(const std::string& from, const std::string& text) {
    const auto message = wait();
    ASSERT_TRUE(message) << name << " waits for " << text;
    EXPECT_EQ(message->from, from);
    EXPECT_EQ(text_of(*message), text);
  }
  void expect_nothing(std::chrono::milliseconds time = 500ms) {
    const auto message = wait(time);
    EXPECT_FALSE(message) << message->from << " said " << text_of(*message);
  }
};

class ControlBusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (Node* node : {&n1_, &n2_, &n3_}) ASSERT_TRUE(list_.add(node->line()));
  }
  std::shared_ptr<const Membership> members() const {
    return std::make_shared<const Membership>(list_);
  }
  void open_all() {
    for (Node* node : {&n1_, &n2_, &n3_}) node->open(members());
  }
  /// n1 still hears n2.
  void expect_alive(const std::string& text = "still here") {
    ASSERT_TRUE(n2_.bus->send("n1", as_bytes(text)));
    n1_.expect("n2", text);
  }

  Membership list_ = *Membership::create();
  Node n1_{"n1"}, n2_{"n2"}, n3_{"n3"};
};

/// A ZeroMQ client of a stranger, with whatever security it likes.
struct Stranger {
  zmq::context_t context;
  zmq::socket_t socket{context, zmq::socket_type::dealer};

  explicit Stranger(const std::function<void(zmq::socket_t&)>& set_up) {
    socket.set(zmq::sockopt::linger, 0);
    set_up(socket);
  }
  void say(std::uint16_t port, const std::string& text) {
    socket.connect(endpoint_of(port));
    socket.send(zmq::buffer(text), zmq::send_flags::dontwait);
  }
};

void use_curve(zmq::socket_t& socket, const CurveKeys& own, const CurvePublicKey& server) {
  socket.set(zmq::sockopt::curve_serverkey, zmq::const_buffer(server.data(), server.size()));
  socket.set(zmq::sockopt::curve_publickey,
             zmq::const_buffer(own.public_key().data(), own.public_key().size()));
  socket.set(zmq::sockopt::curve_secretkey,
             zmq::const_buffer(own.secret().data(), own.secret().size()));
}

/// Passes connections on to a port and keeps, or changes, what goes to the server.
class Proxy {
 public:
  explicit Proxy(std::uint16_t target, std::size_t flip_at = SIZE_MAX)
      : target_(target), flip_at_(flip_at), listener_(listening_socket(port_)) {
    thread_ = std::thread([this] { run(); });
  }
  ~Proxy() { stop(); }
  std::uint16_t port() const { return port_; }
  /// What clients have sent; call it after `stop`.
  const std::string& recorded() const { return recorded_; }
  /// Sends what the client says next twice.
  void repeat_next() { repeat_ = true; }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    pollfd item{listener_.get(), POLLIN, 0};
    while (!stop_) {
      if (::poll(&item, 1, 20) <= 0) continue;
      const OwnedFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const OwnedFd server = tcp_to(target_);
      pass(client, server);
    }
  }
  void pass(const OwnedFd& client, const OwnedFd& server) {
    char buffer[65536];
    std::size_t offset = 0;
    while (!stop_) {
      pollfd items[2] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
      if (::poll(items, 2, 20) <= 0) continue;
      for (int i = 0; i < 2; ++i) {
        if (!items[i].revents) continue;
        const ssize_t n = ::recv(items[i].fd, buffer, sizeof buffer, 0);
        if (n <= 0) return;
        const auto size = static_cast<std::size_t>(n);
        if (i == 0) {
          if (flip_at_ >= offset && flip_at_ < offset + size) buffer[flip_at_ - offset] ^= 1;
          offset += size;
          recorded_.append(buffer, size);
          if (repeat_.exchange(false)) (void)::send(server.get(), buffer, size, MSG_NOSIGNAL);
        }
        (void)::send(items[1 - i].fd, buffer, size, MSG_NOSIGNAL);
      }
    }
  }

  std::uint16_t target_;
  std::size_t flip_at_;
  std::uint16_t port_ = free_port();
  OwnedFd listener_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> repeat_ = false;
  std::string recorded_;
  std::thread thread_;
};

TEST_F(ControlBusTest, MessagesArriveInOrderUnderTheSendersName) {
  open_all();
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(n1_.bus->send("n2", as_bytes("message " + std::to_string(i))));
  for (int i = 0; i < 200; ++i) n2_.expect("n1", "message " + std::to_string(i));
  ASSERT_TRUE(n2_.bus->send("n1", as_bytes("answer")));
  n1_.expect("n2", "answer");
  n3_.expect_nothing(50ms);
}

TEST_F(ControlBusTest, EmptyAndTheLargestMessagesPass) {
  open_all();
  ASSERT_TRUE(n1_.bus->send("n2", {}));
  n2_.expect("n1", "");
  const std::string large(kMaxBusMessageBytes, 'x');
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes(large)));
  const auto message = n2_.wait();
  ASSERT_TRUE(message);
  EXPECT_EQ(text_of(*message), large);
  EXPECT_EQ(n1_.bus->send("n2", as_bytes(large + "x")).error().code, EMSGSIZE);
}

TEST_F(ControlBusTest, TheDescriptorIsReadableWhileMessagesWait) {
  open_all();
  pollfd item{n2_.bus->poll_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&item, 1, 0), 0);
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("a")));
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("b")));
  ASSERT_EQ(::poll(&item, 1, 5000), 1);
  n2_.expect("n1", "a");
  n2_.expect("n1", "b");
  EXPECT_EQ(::poll(&item, 1, 0), 0);
}

TEST_F(ControlBusTest, AMessageWaitsForANodeThatStartsLater) {
  n1_.open(members());
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("early")));
  std::this_thread::sleep_for(300ms);
  n2_.open(members());
  n2_.expect("n1", "early");
}

TEST_F(ControlBusTest, ARestartedNodeIsReachedAgain) {
  open_all();
  expect_alive("before");
  n1_.bus.reset();
  n1_.open(members());
  std::this_thread::sleep_for(300ms);
  expect_alive("after");
}

TEST_F(ControlBusTest, TheSecondAddressIsTriedWhenTheFirstIsDead) {
  NodeKeyLine line = n2_.line();
  line.addresses.insert(line.addresses.begin(), {host(), 1, free_port()});
  ASSERT_TRUE(list_.add(line));
  open_all();
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("by the second")));
  n2_.expect("n1", "by the second");
}

TEST_F(ControlBusTest, NodesThatAreNotMembersAreNotSentTo) {
  ASSERT_TRUE(list_.revoke("n3"));
  n1_.open(members());
  EXPECT_EQ(n1_.bus->send("n9", as_bytes("x")).error().message(), "n9: not a member");
  EXPECT_EQ(n1_.bus->send("n3", as_bytes("x")).error().message(), "n3: revoked");
}

TEST_F(ControlBusTest, ANodeThatTakesNothingFillsItsQueueOnly) {
  n1_.open(members());
  n3_.open(members());
  const Bytes payload(kMaxBusMessageBytes);
  Status status;
  for (int i = 0; i < 200 && status; ++i) status = n1_.bus->send("n2", payload);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ENOBUFS);
  ASSERT_TRUE(n1_.bus->send("n3", as_bytes("passes")));
  n3_.expect("n1", "passes");
}

TEST_F(ControlBusTest, AReaderThatPausesLosesNothing) {
  open_all();
  const Bytes payload(64 * 1024);
  constexpr int kCount = 400;
  int sent = 0, received = 0;
  const auto deadline = Clock::now() + 20s;
  while (received < kCount && Clock::now() < deadline) {
    while (sent < kCount && n1_.bus->send("n2", payload)) ++sent;
    if (sent > 300)
      while (n2_.bus->receive()) ++received;
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(received, kCount);
}

TEST_F(ControlBusTest, ANodeThatFloodsAndBreaksOffHarmsItselfOnly) {
  open_all();
  expect_alive("before");
  for (int i = 0; i < 3; ++i) {
    Stranger flood(
        [&](auto& s) { use_curve(s, n3_.keys.control(), n1_.keys.control().public_key()); });
    flood.socket.set(zmq::sockopt::heartbeat_ivl, 10);
    flood.socket.set(zmq::sockopt::sndtimeo, 5000);
    flood.socket.connect(endpoint_of(n1_.port));
    for (int m = 0; m < 1500; ++m) flood.socket.send(zmq::buffer(std::string(4096, 'x')));
  }
  std::this_thread::sleep_for(1500ms);
  ASSERT_TRUE(n2_.bus->send("n1", as_bytes("after")));
  int flood = 0;
  auto message = n1_.wait();
  for (; message && message->from == "n3"; message = n1_.wait()) ++flood;
  EXPECT_GT(flood, 0);
  EXPECT_LE(flood, 1024);
  ASSERT_TRUE(message);
  EXPECT_EQ(text_of(*message), "after");
}

TEST_F(ControlBusTest, AnUnknownKeyIsRefused) {
  open_all();
  const NodeKeys unknown = *NodeKeys::generate();
  Stranger stranger(
      [&](auto& s) { use_curve(s, unknown.control(), n1_.keys.control().public_key()); });
  stranger.say(n1_.port, "let me in");
  n1_.expect_nothing();
  expect_alive();
}

TEST_F(ControlBusTest, AMembersGossipKeyCommandsNothing) {
  open_all();
  Stranger stranger(
      [&](auto& s) { use_curve(s, n2_.keys.gossip(), n1_.keys.control().public_key()); });
  stranger.say(n1_.port, "obey");
  n1_.expect_nothing();
}

TEST_F(ControlBusTest, AWrongServerKeyIsRefused) {
  open_all();
  Stranger stranger(
      [&](auto& s) { use_curve(s, n2_.keys.control(), n3_.keys.control().public_key()); });
  stranger.say(n1_.port, "for n3 only");
  n1_.expect_nothing();
  expect_alive();
}

TEST_F(ControlBusTest, AnImpostorAtANodesAddressHearsNothing) {
  // n3 sits at n2's address, with n3's key.
  n1_.open(members());
  n3_.port = n2_.port;
  n3_.open(members());
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("a secret")));
  n3_.expect_nothing(2500ms);
}

TEST_F(ControlBusTest, ClientsWithoutCurveAreRefused) {
  open_all();
  Stranger null_client([](auto&) {});
  null_client.say(n1_.port, "no security");
  Stranger plain_client([](auto& s) {
    s.set(zmq::sockopt::plain_username, "n2");
    s.set(zmq::sockopt::plain_password, "please");
  });
  plain_client.say(n1_.port, "a password");
  n1_.expect_nothing();
  expect_alive();
}

TEST_F(ControlBusTest, NobodySpeaksForAnother) {
  open_all();
  // A member that claims another's routing id, and puts names into frames of its own.
  Stranger liar([&](auto& s) {
    use_curve(s, n3_.keys.control(), n1_.keys.control().public_key());
    s.set(zmq::sockopt::routing_id, "n2");
  });
  liar.say(n1_.port, "I am n2");
  n1_.expect("n3", "I am n2");
  liar.socket.send(zmq::str_buffer("n2"), zmq::send_flags::sndmore);
  liar.socket.send(zmq::str_buffer("I am n2"), zmq::send_flags::none);
  n1_.expect_nothing();
  expect_alive();
}

TEST_F(ControlBusTest, AnOversizedMessageClosesItsConnectionOnly) {
  open_all();
  Stranger glutton(
      [&](auto& s) { use_curve(s, n3_.keys.control(), n1_.keys.control().public_key()); });
  glutton.say(n1_.port, std::string(kMaxBusMessageBytes + 1, 'x'));
  glutton.socket.send(zmq::message_t(16 << 20), zmq::send_flags::dontwait);
  n1_.expect_nothing();
  expect_alive();
}

TEST_F(ControlBusTest, GarbageAtThePortHarmsNobody) {
  open_all();
  expect_alive("before");
  std::mt19937 random(7);
  std::vector<OwnedFd> connections;
  for (int i = 0; i < 50; ++i) {
    std::string garbage(1 + random() % 5000, '\0');
    for (char& c : garbage) c = static_cast<char>(random());
    connections.push_back(tcp_to(n1_.port));
    (void)::send(connections.back().get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
  }
  // ZMTP's greeting, then the frame of a length that nobody has.
  std::string greeting("\xff\0\0\0\0\0\0\0\1\x7f\3\1CURVE", 17);
  greeting.resize(64, '\0');
  OwnedFd liar = tcp_to(n1_.port);
  const std::string huge = greeting + std::string("\6\x7f\xff\xff\xff\xff\xff\xff\xff", 9);
  (void)::send(liar.get(), huge.data(), huge.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(closes(liar, 7s));
  n1_.expect_nothing(100ms);
  expect_alive("after");
}

TEST_F(ControlBusTest, AnUnfinishedHandshakeIsClosed) {
  open_all();
  const OwnedFd silent = tcp_to(n1_.port);
  EXPECT_TRUE(closes(silent, 8s));
}

TEST_F(ControlBusTest, ARecordedSessionCannotBeReplayed) {
  open_all();
  std::string recorded;
  {
    Proxy proxy(n1_.port);
    Stranger client(
        [&](auto& s) { use_curve(s, n2_.keys.control(), n1_.keys.control().public_key()); });
    client.say(proxy.port(), "pay once");
    n1_.expect("n2", "pay once");
    proxy.stop();
    recorded = proxy.recorded();
  }
  ASSERT_GT(recorded.size(), 64u + 200u);
  const OwnedFd again = tcp_to(n1_.port);
  (void)::send(again.get(), recorded.data(), recorded.size(), MSG_NOSIGNAL);
  n1_.expect_nothing(1s);
  // Cut anywhere, it is none the better.
  for (std::size_t size = 1; size < recorded.size(); size += 37)
    (void)::send(tcp_to(n1_.port).get(), recorded.data(), size, MSG_NOSIGNAL);
  n1_.expect_nothing(200ms);
  expect_alive();
}

TEST_F(ControlBusTest, AMessageRepeatedInItsSessionCountsOnce) {
  open_all();
  Proxy proxy(n1_.port);
  Stranger client(
      [&](auto& s) { use_curve(s, n2_.keys.control(), n1_.keys.control().public_key()); });
  client.say(proxy.port(), "hello");
  n1_.expect("n2", "hello");
  proxy.repeat_next();
  client.socket.send(zmq::str_buffer("pay once"), zmq::send_flags::none);
  n1_.expect("n2", "pay once");
  n1_.expect_nothing(500ms);
  expect_alive();
}

TEST_F(ControlBusTest, AChangedByteOnTheWireIsNoMessage) {
  open_all();
  // The greeting takes 64 bytes, HELLO 202 (of which 72 are padding), INITIATE about 300.
  for (const std::size_t at : {67u, 150u, 200u, 300u, 400u, 500u, 600u, 700u}) {
    Proxy proxy(n1_.port, at);
    Stranger client(
        [&](auto& s) { use_curve(s, n2_.keys.control(), n1_.keys.control().public_key()); });
    // Otherwise ZeroMQ's second attempt would pass, unchanged.
    client.socket.set(zmq::sockopt::reconnect_ivl, -1);
    client.say(proxy.port(), std::string(200, 'm'));
    n1_.expect_nothing(300ms);
    proxy.stop();
    EXPECT_GT(proxy.recorded().size(), at) << "nothing was changed";
  }
  expect_alive();
}

TEST_F(ControlBusTest, ARevokedNodeIsHeardNoMore) {
  open_all();
  ASSERT_TRUE(n3_.bus->send("n1", as_bytes("first")));
  n1_.expect("n3", "first");
  expect_alive("first");
  // These wait at n1, unread, when the list changes.
  ASSERT_TRUE(n3_.bus->send("n1", as_bytes("sent before")));
  pollfd item{n1_.bus->poll_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&item, 1, 5000), 1);

  ASSERT_TRUE(list_.revoke("n3"));
  n1_.bus->set_membership(members());
  EXPECT_FALSE(n1_.bus->receive());
  EXPECT_EQ(::poll(&item, 1, 0), 0);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(n3_.bus->send("n1", as_bytes("sent after")));
    std::this_thread::sleep_for(10ms);
  }
  n1_.expect_nothing(1s);
  EXPECT_FALSE(n1_.bus->send("n3", as_bytes("x")));
  std::this_thread::sleep_for(1s);
  expect_alive("the others are still heard");
}

TEST_F(ControlBusTest, ARevokedNodesConnectionCloses) {
  open_all();
  zmq::context_t context;
  zmq::socket_t client(context, zmq::socket_type::dealer);
  client.set(zmq::sockopt::linger, 0);
  client.set(zmq::sockopt::reconnect_ivl, -1);
  use_curve(client, n3_.keys.control(), n1_.keys.control().public_key());
  ASSERT_EQ(zmq_socket_monitor(client.handle(), "inproc://watch", ZMQ_EVENT_DISCONNECTED), 0);
  zmq::socket_t watch(context, zmq::socket_type::pair);
  watch.set(zmq::sockopt::rcvtimeo, 5000);
  watch.connect("inproc://watch");
  client.connect(endpoint_of(n1_.port));
  client.send(zmq::str_buffer("hello"), zmq::send_flags::none);
  n1_.expect("n3", "hello");
  ASSERT_TRUE(list_.revoke("n3"));
  n1_.bus->set_membership(members());
  zmq::message_t event;
  EXPECT_TRUE(watch.recv(event).has_value()) << "the connection is still open";
}

TEST_F(ControlBusTest, ANodeThatIsSignedInLaterIsHeard) {
  Node late{"n4"};
  open_all();
  const auto before = members();
  ASSERT_TRUE(list_.add(late.line()));
  late.open(members());
  ASSERT_TRUE(late.bus->send("n1", as_bytes("too early")));
  n1_.expect_nothing(300ms);
  n1_.bus->set_membership(members());
  // The refused connection is dialled anew; what was queued arrives in its lifetime.
  n1_.expect("n4", "too early");
  ASSERT_TRUE(n1_.bus->send("n4", as_bytes("welcome")));
  late.expect("n1", "welcome");
}

TEST_F(ControlBusTest, ANodeWithNewKeysIsHeardTheOldOneIsNot) {
  open_all();
  expect_alive("old");
  Node renewed{"n2"};
  ASSERT_TRUE(list_.revoke("n2"));
  ASSERT_TRUE(list_.add(renewed.line()));
  renewed.open(members());
  n1_.bus->set_membership(members());
  ASSERT_TRUE(n2_.bus->send("n1", as_bytes("by the old keys")));
  n1_.expect_nothing(1s);
  ASSERT_TRUE(renewed.bus->send("n1", as_bytes("by the new")));
  n1_.expect("n2", "by the new");
  ASSERT_TRUE(n1_.bus->send("n2", as_bytes("to the new")));
  renewed.expect("n1", "to the new");
}

TEST_F(ControlBusTest, APortInUseIsOneClearError) {
  n1_.open(members());
  const auto second = ControlBus::open(n2_.keys, members(), host(), n1_.port);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message(), "control bus at " + host() + " port " +
                                          std::to_string(n1_.port) + ": Address already in use");
  EXPECT_FALSE(ControlBus::open(n2_.keys, members(), "not-an-address", 0));
}

TEST_F(ControlBusTest, ThreadsMaySendAndReceiveAtOnce) {
  open_all();
  constexpr int kEach = 100;
  std::vector<std::thread> senders;
  for (int t = 0; t < 4; ++t)
    senders.emplace_back([this] {
      for (int i = 0; i < kEach; ++i) {
        EXPECT_TRUE(n1_.bus->send("n2", as_bytes("x")));
        if (i % 25 == 0) n1_.bus->set_membership(members());
      }
    });
  int received = 0;
  while (received < 4 * kEach && n2_.wait()) ++received;
  for (std::thread& thread : senders) thread.join();
  EXPECT_EQ(received, 4 * kEach);
}

}  // namespace
}  // namespace drover
