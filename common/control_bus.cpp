#include "common/control_bus.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <zmq.hpp>

#include "common/log.h"
#include "common/owned_fd.h"

#if defined(__SANITIZE_THREAD__)
// ZeroMQ hands memory from thread to thread by atomics that this sanitizer cannot see in a
// library built without it. Only accesses below a call into ZeroMQ, or its
// libsodium, are left out.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so\ncalled_from_lib:libsodium.so\n"
         "race:libzmq.so\nrace:libsodium.so\n";
}
#endif

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr char kZapDomain[] = "drover";
constexpr char kZapEndpoint[] = "inproc://zeromq.zap.01";  // fixed by RFC 27
constexpr std::size_t kMaxQueuedMessages = 1024;           // to one node, and from one
constexpr std::size_t kMaxQueuedBytes = 32 << 20;
// What CURVE adds to a message: name, nonce, tag and flags (zmq_curve(7), RFC 26).
constexpr int kCurveOverheadBytes = 64;
constexpr int kHighWaterMark = 64;
constexpr int kDeadPeerMs = 4000;
constexpr int kHandshakeMs = 5000;
constexpr int kLingerMs = 200;
constexpr milliseconds kFirstRedial{1500};  // a handshake is four round trips
constexpr milliseconds kQueueTick{200};
constexpr milliseconds kRefusalPause{1000};  // a stranger does not fill the log

/// A listening TCP socket of ours, so that ZeroMQ's side of it can be remade at any time.
Result<OwnedFd> listen_at(const std::string& host, std::uint16_t port) {
  const std::string where = "control bus at " + host + " port " + std::to_string(port);
  addrinfo hints{}, *found = nullptr;
  hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return refusal(where + ": " + ::gai_strerror(code));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> address(found, ::freeaddrinfo);
  OwnedFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int one = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) < 0 || ::listen(fd.get(), SOMAXCONN) < 0)
    return errno_error(where);
  return fd;
}

std::uint16_t port_of(const OwnedFd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::string endpoint_of(const NodeAddress& address) {
  const bool bracket = address.host.find(':') != std::string::npos;
  return "tcp://" + (bracket ? "[" + address.host + "]" : address.host) + ":" +
         std::to_string(address.control_port);
}

zmq::const_buffer zmq_view(ByteView bytes) { return {bytes.data(), bytes.size()}; }

/// An event that stays up until it is taken down (eventfd(2)).
class Event {
 public:
  static Result<Event> create() {
    Event event;
    event.fd_ = OwnedFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event.fd_) return errno_error("eventfd");
    return event;
  }
  void raise() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(fd_.get(), &one, sizeof one);
  }
  void clear() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t n = ::read(fd_.get(), &count, sizeof count);
  }
  int fd() const { return fd_.get(); }

 private:
  OwnedFd fd_;
};

struct Queue {
  struct Item {
    Bytes payload;
    Clock::time_point since;
  };
  std::deque<Item> items;
  std::size_t bytes = 0;

  bool has_room(std::size_t size) const {
    return items.size() < kMaxQueuedMessages && bytes + size <= kMaxQueuedBytes;
  }
  void pop() {
    bytes -= items.front().payload.size();
    items.pop_front();
  }
};

/// The connection to one node, to send.
struct Dialled {
  zmq::socket_t socket;
  CurvePublicKey key{};  // by which it was made
  std::size_t next_address = 0;
  milliseconds patience = kFirstRedial;
  Clock::time_point stuck_since{};  // when the queue last began to wait; zero if it does not
};

struct Waiting {
  std::size_t messages = 0;
  std::size_t bytes = 0;
  bool said = false;  // that some were dropped
};

/// The lists of interface and thread meet under one mutex, held for moments.
struct Shared {
  std::mutex mutex;
  std::shared_ptr<const Membership> members;
  std::map<std::string, Queue> outgoing;
  std::deque<BusMessage> incoming;
  std::map<std::string, Waiting> waiting;  // what of each node is in `incoming`
  // Nodes whose trust ended while the ROUTER may still hold connections of theirs.
  // With each the revision in which it ended: it may end again, by other keys.
  std::map<std::string, std::uint64_t> distrusted;
  std::uint64_t revision = 0;
  bool stop = false;
};

}  // namespace

class ControlBus::Core {
 public:
  Core(const NodeKeys& keys, std::shared_ptr<const Membership> members, OwnedFd listener,
       Event wake, Event ready)
      : keys_(keys.control()),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        ready_(std::move(ready)) {
    shared_.members = std::move(members);
  }
  ~Core();

  /// Makes the sockets and starts the thread. Throws zmq::error_t, std::system_error.
  void start();

  Status send(const std::string& node, ByteView payload);
  std::optional<BusMessage> receive();
  void set_membership(std::shared_ptr<const Membership> members);
  int poll_fd() const { return ready_.fd(); }
  std::uint16_t port() const { return port_of(listener_); }

 private:
  // All below is the thread's own.
  void run();
  bool step();
  void open_router();
  void apply_distrust();
  void answer_zap();
  void take_incoming();
  void take_one(zmq::message_t& message);
  bool send_queued();
  void drop_expired(Clock::time_point now);
  void tend(Dialled& peer, const Member& member, Clock::time_point now);
  void dial(Dialled& peer, const Member& member);
  void flush(const std::string& node, Dialled& peer);
  static void set_common(zmq::socket_t& socket);

  const CurveKeys keys_;
  const OwnedFd listener_;
  const Event wake_;   // the interface has something for the thread
  const Event ready_;  // `incoming` is not empty
  Shared shared_;

  zmq::context_t context_;
  zmq::socket_t zap_;
  zmq::socket_t router_;
  std::map<std::string, Dialled> dialled_;
  Clock::time_point last_refusal_said_{};
  std::thread thread_;
};

ControlBus::ControlBus(std::unique_ptr<Core> core) : core_(std::move(core)) {}
ControlBus::ControlBus(ControlBus&&) noexcept = default;
ControlBus& ControlBus::operator=(ControlBus&&) noexcept = default;
ControlBus::~ControlBus() = default;

Result<ControlBus> ControlBus::open(const NodeKeys& keys, std::shared_ptr<const Membership> members,
                                    const std::string& bind_host, std::uint16_t port) {
  DROVER_TRY(OwnedFd listener, listen_at(bind_host, port));
  DROVER_TRY(Event wake, Event::create());
  DROVER_TRY(Event ready, Event::create());
  try {
    auto core = std::make_unique<Core>(keys, std::move(members), std::move(listener),
                                       std::move(wake), std::move(ready));
    core->start();
    return ControlBus(std::move(core));
  } catch (const std::exception& e) {
    return refusal(std::string("control bus: ") + e.what());
  }
}

Status ControlBus::send(const std::string& node, ByteView payload) {
  return core_->send(node, payload);
}
std::optional<BusMessage> ControlBus::receive() { return core_->receive(); }
int ControlBus::poll_fd() const { return core_->poll_fd(); }
std::uint16_t ControlBus::port() const { return core_->port(); }
void ControlBus::set_membership(std::shared_ptr<const Membership> members) {
  core_->set_membership(std::move(members));
}

Status ControlBus::Core::send(const std::string& node, ByteView payload) {
  if (payload.size() > kMaxBusMessageBytes) return Error{EMSGSIZE, node};
  const std::lock_guard lock(shared_.mutex);
  if (!shared_.members->active(node))
    return refusal(node + (shared_.members->find(node) ? ": revoked" : ": not a member"));
  Queue& queue = shared_.outgoing[node];
  if (!queue.has_room(payload.size())) return Error{ENOBUFS, node};
  queue.items.push_back({Bytes(payload.begin(), payload.end()), Clock::now()});
  queue.bytes += payload.size();
  wake_.raise();
  return {};
}

std::optional<BusMessage> ControlBus::Core::receive() {
  const std::lock_guard lock(shared_.mutex);
  if (shared_.incoming.empty()) return std::nullopt;
  BusMessage message = std::move(shared_.incoming.front());
  shared_.incoming.pop_front();
  const auto waiting = shared_.waiting.find(message.from);
  waiting->second.bytes -= message.payload.size();
  if (--waiting->second.messages == 0) shared_.waiting.erase(waiting);
  if (shared_.incoming.empty()) ready_.clear();
  return message;
}

void ControlBus::Core::set_membership(std::shared_ptr<const Membership> members) {
  const std::lock_guard lock(shared_.mutex);
  shared_.revision += 1;
  for (const std::string& node : no_longer_trusted(*shared_.members, *members)) {
    shared_.distrusted[node] = shared_.revision;
    shared_.outgoing.erase(node);
    shared_.waiting.erase(node);
    std::erase_if(shared_.incoming,
                  [&](const BusMessage& message) { return message.from == node; });
  }
  if (shared_.incoming.empty()) ready_.clear();
  shared_.members = std::move(members);
  wake_.raise();
}

ControlBus::Core::~Core() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(shared_.mutex);
    shared_.stop = true;
    wake_.raise();
  }
  thread_.join();
}

void ControlBus::Core::start() {
  context_.set(zmq::ctxopt::max_sockets, static_cast<int>(kMaxMembers) + 16);
  zap_ = zmq::socket_t(context_, zmq::socket_type::rep);
  zap_.set(zmq::sockopt::linger, 0);
  zap_.bind(kZapEndpoint);
  open_router();
  // Signals are the program's own threads' matter.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ControlBus::Core::run() {
  for (;;) {
    try {
      while (step()) {
      }
      break;
    } catch (const std::exception& e) {
      // For want of descriptors or memory: go on with what there is.
      log_error("control bus: {}", e.what());
      std::this_thread::sleep_for(kQueueTick);
    }
  }
  dialled_.clear();
  router_.close();
  zap_.close();
}

/// Waits for something to do and does it; false when the bus is to stop.
bool ControlBus::Core::step() {
  apply_distrust();
  const bool waiting = send_queued();
  {
    const std::lock_guard lock(shared_.mutex);
    if (shared_.stop) return false;
  }
  std::vector<zmq::pollitem_t> items = {
      {nullptr, wake_.fd(), ZMQ_POLLIN, 0},
      {zap_.handle(), 0, ZMQ_POLLIN, 0},
      {router_.handle(), 0, ZMQ_POLLIN, 0},
  };
  // Idle connections are polled too: a socket that nobody looks at does not reconnect.
  for (auto& [node, peer] : dialled_) {
    if (!peer.socket) continue;
    const short sending = peer.stuck_since == Clock::time_point{} ? 0 : ZMQ_POLLOUT;
    items.push_back({peer.socket.handle(), 0, static_cast<short>(ZMQ_POLLIN | sending), 0});
  }
  zmq::poll(items, waiting ? kQueueTick : milliseconds(-1));

  if (items[0].revents) wake_.clear();
  if (items[1].revents) answer_zap();
  if (items[2].revents) take_incoming();
  auto item = items.begin() + 3;
  for (auto& [node, peer] : dialled_) {
    if (!peer.socket) continue;
    // Nobody has anything to say on this connection: who does loses it.
    if (item->revents & ZMQ_POLLIN) peer.socket.close();
    ++item;
  }
  return true;
}

void ControlBus::Core::set_common(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::ipv6, true);
  socket.set(zmq::sockopt::sndhwm, kHighWaterMark);
  // ZeroMQ 4.3.4 aborts the program ("!_io_error", stream_engine_base.cpp) if a heartbeat of
  // either side is due on a connection that broke while a full queue held its input up. So its
  // input is never held up: we read always, and bound what is kept per node ourselves. And a
  // dead peer is TCP's to notice.
  socket.set(zmq::sockopt::rcvhwm, 0);
  socket.set(zmq::sockopt::tcp_maxrt, kDeadPeerMs);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, 1);
  socket.set(zmq::sockopt::tcp_keepalive_intvl, 1);
  socket.set(zmq::sockopt::tcp_keepalive_cnt, kDeadPeerMs / 1000);
  socket.set(zmq::sockopt::maxmsgsize,
             static_cast<std::int64_t>(kMaxBusMessageBytes) + kCurveOverheadBytes);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
}

void ControlBus::Core::open_router() {
  router_ = zmq::socket_t();  // closes the one before and all its connections
  zmq::socket_t router(context_, zmq::socket_type::router);
  set_common(router);
  router.set(zmq::sockopt::linger, 0);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::curve_secretkey, zmq_view(keys_.secret()));
  router.set(zmq::sockopt::zap_domain, kZapDomain);
  OwnedFd copy(::fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw zmq::error_t();
  router.set(zmq::sockopt::use_fd, copy.get());
  // The name is ignored, the socket is ours. From here ZeroMQ closes the copy.
  router.bind("tcp://127.0.0.1:*");
  copy.release();
  router_ = std::move(router);
}

/// Closes the connections of nodes that are trusted no more.
void ControlBus::Core::apply_distrust() {
  std::map<std::string, std::uint64_t> distrusted;
  {
    const std::lock_guard lock(shared_.mutex);
    distrusted = shared_.distrusted;
  }
  if (distrusted.empty()) return;
  for (const auto& [node, revision] : distrusted) {
    const auto peer = dialled_.find(node);
    if (peer == dialled_.end()) continue;
    peer->second.socket.set(zmq::sockopt::linger, 0);
    dialled_.erase(peer);
  }
  if (router_) take_incoming();  // what the others have sent is not lost
  open_router();                 // ZeroMQ cannot close one incoming connection: all are made anew
  const std::lock_guard lock(shared_.mutex);
  std::erase_if(shared_.distrusted, [&](const auto& entry) {
    const auto seen = distrusted.find(entry.first);
    return seen != distrusted.end() && seen->second == entry.second;
  });
}

/// One request of RFC 27: version, request id, domain, address, routing id, mechanism, key.
void ControlBus::Core::answer_zap() {
  std::vector<std::string> frames;
  zmq::message_t frame;
  do {
    if (!zap_.recv(frame, zmq::recv_flags::dontwait)) return;
    frames.push_back(frame.to_string());
  } while (frame.more());

  std::string name;
  CurvePublicKey key{};
  if (frames.size() == 7 && frames[0] == "1.0" && frames[2] == kZapDomain && frames[5] == "CURVE" &&
      frames[6].size() == key.size()) {
    std::memcpy(key.data(), frames[6].data(), key.size());
    const std::lock_guard lock(shared_.mutex);
    if (const Member* member = shared_.members->active_by_control(key)) name = member->name;
  }
  if (name.empty() && Clock::now() - last_refusal_said_ > kRefusalPause) {
    last_refusal_said_ = Clock::now();
    log_warn("control bus: refused a connection from {}: not by a member's key",
             frames.size() > 3 ? frames[3] : "somebody");
  }
  const std::string answer[] = {"1.0",
                                frames.size() > 1 ? frames[1] : "",
                                name.empty() ? "400" : "200",
                                name.empty() ? "not a member" : "OK",
                                name,
                                ""};
  for (const std::string& part : answer)
    zap_.send(zmq::buffer(part),
              &part == &answer[5] ? zmq::send_flags::none : zmq::send_flags::sndmore);
}

void ControlBus::Core::take_incoming() {
  for (std::size_t i = 0; i < kMaxQueuedMessages; ++i) {
    zmq::message_t first;
    if (!router_.recv(first, zmq::recv_flags::dontwait)) return;
    if (!first.more()) continue;
    // A message of ours is the routing id and one frame; of another form, nothing is taken.
    zmq::message_t payload, surplus;
    (void)router_.recv(payload, zmq::recv_flags::dontwait);
    const bool well_formed = !payload.more();
    for (bool more = payload.more(); more; more = surplus.more())
      if (!router_.recv(surplus, zmq::recv_flags::dontwait)) break;
    if (well_formed) take_one(payload);
  }
}

void ControlBus::Core::take_one(zmq::message_t& message) {
  const char* from = zmq_msg_gets(message.handle(), "User-Id");  // by our ZAP answer only
  if (from == nullptr || message.size() > kMaxBusMessageBytes) return;
  const auto* data = static_cast<const std::byte*>(message.data());
  BusMessage taken{from, Bytes(data, data + message.size())};
  const std::lock_guard lock(shared_.mutex);
  if (!shared_.members->active(taken.from) || shared_.distrusted.count(taken.from)) return;
  Waiting& waiting = shared_.waiting[taken.from];
  if (waiting.messages >= kMaxQueuedMessages || waiting.bytes >= kMaxQueuedBytes) {
    if (!waiting.said) log_warn("control bus: {}: too many messages, dropping some", taken.from);
    waiting.said = true;
    return;
  }
  waiting.messages += 1;
  waiting.bytes += taken.payload.size();
  shared_.incoming.push_back(std::move(taken));
  if (shared_.incoming.size() == 1) ready_.raise();
}

/// Sends what can be sent now, connecting where needed; true if something must wait.
bool ControlBus::Core::send_queued() {
  const auto now = Clock::now();
  drop_expired(now);
  std::vector<std::string> waiting;
  std::shared_ptr<const Membership> members;
  {
    const std::lock_guard lock(shared_.mutex);
    members = shared_.members;
    for (const auto& [node, queue] : shared_.outgoing) waiting.push_back(node);
  }
  for (auto& [node, peer] : dialled_)  // a queue may have expired
    if (!std::binary_search(waiting.begin(), waiting.end(), node)) peer.stuck_since = {};
  bool stuck = false;
  for (const std::string& node : waiting) {
    const Member* member = members->active(node);
    if (member == nullptr) continue;
    Dialled& peer = dialled_[node];
    tend(peer, *member, now);
    flush(node, peer);
    stuck |= peer.stuck_since != Clock::time_point{};
  }
  return stuck;
}

void ControlBus::Core::drop_expired(Clock::time_point now) {
  std::map<std::string, std::size_t> dropped;
  {
    const std::lock_guard lock(shared_.mutex);
    for (auto entry = shared_.outgoing.begin(); entry != shared_.outgoing.end();) {
      Queue& queue = entry->second;
      for (; !queue.items.empty() && now - queue.items.front().since > kBusMessageLife; queue.pop())
        dropped[entry->first] += 1;
      entry = queue.items.empty() ? shared_.outgoing.erase(entry) : std::next(entry);
    }
  }
  for (const auto& [node, count] : dropped)
    log_warn("control bus: {}: unreachable, dropped {} message(s)", node, count);
}

/// Connects if need be, and connects anew, to the node's next address, if the queue has been
/// stuck: a connection refused by CURVE is never retried by ZeroMQ itself.
void ControlBus::Core::tend(Dialled& peer, const Member& member, Clock::time_point now) {
  if (peer.stuck_since == Clock::time_point{}) peer.stuck_since = now;
  const bool current = peer.socket && peer.key == member.keys.control;
  if (current && now - peer.stuck_since < peer.patience) return;
  if (current) peer.patience = std::min(2 * peer.patience, milliseconds(kBusMessageLife));
  dial(peer, member);
  peer.stuck_since = now;
}

void ControlBus::Core::dial(Dialled& peer, const Member& member) {
  zmq::socket_t socket(context_, zmq::socket_type::dealer);
  set_common(socket);
  socket.set(zmq::sockopt::linger, kLingerMs);
  // Messages wait in our own queue until the handshake is done, and so can expire there.
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::connect_timeout, 3000);
  socket.set(zmq::sockopt::reconnect_ivl, 100);
  socket.set(zmq::sockopt::reconnect_ivl_max, 1000);
  socket.set(zmq::sockopt::curve_serverkey, zmq_view(member.keys.control));
  socket.set(zmq::sockopt::curve_publickey, zmq_view(keys_.public_key()));
  socket.set(zmq::sockopt::curve_secretkey, zmq_view(keys_.secret()));
  // One address at a time: two connections would not keep the order of messages.
  socket.connect(endpoint_of(member.addresses[peer.next_address % member.addresses.size()]));
  peer.next_address += 1;
  peer.key = member.keys.control;
  peer.socket = std::move(socket);
}

void ControlBus::Core::flush(const std::string& node, Dialled& peer) {
  const std::lock_guard lock(shared_.mutex);
  if (shared_.distrusted.count(node)) return;
  const auto found = shared_.outgoing.find(node);
  if (found == shared_.outgoing.end()) return;
  Queue& queue = found->second;
  for (; !queue.items.empty(); queue.pop()) {
    if (!peer.socket.send(zmq_view(queue.items.front().payload), zmq::send_flags::dontwait)) break;
    peer.patience = kFirstRedial;
    peer.stuck_since = Clock::now();
  }
  if (!queue.items.empty()) return;
  peer.stuck_since = {};
  shared_.outgoing.erase(found);
}

}  // namespace drover
