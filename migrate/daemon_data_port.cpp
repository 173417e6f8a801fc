#include "migrate/daemon_data_port.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "common/log.h"

namespace drover {
namespace {

struct AddressListFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListFree>;

Result<AddressList> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return refusal(host + ": " + ::gai_strerror(code));
  return AddressList(found);
}

std::string ip_text(const addrinfo& address) {
  char text[NI_MAXHOST] = {};
  ::getnameinfo(address.ai_addr, address.ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return text;
}

Status set_blocking(int fd, bool blocking) {
  const int flags = ::fcntl(fd, F_GETFL);
  const int wanted = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
  if (flags < 0 || ::fcntl(fd, F_SETFL, wanted) < 0) return errno_error("fcntl");
  return {};
}

std::uint16_t bound_port(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

Result<std::unique_ptr<DataPort>> DataPort::open(EventLoop& loop, const std::string& host,
                                                 std::uint16_t port, Receiver receiver) {
  const std::string what = "data port " + host + ":" + std::to_string(port);
  DROVER_TRY(const AddressList found, look_up(host, port, AI_NUMERICHOST | AI_PASSIVE));
  OwnedFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_error(what);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), found->ai_addr, found->ai_addrlen) < 0 || ::listen(fd.get(), SOMAXCONN) < 0)
    return errno_error(what);
  std::unique_ptr<DataPort> self(new DataPort(loop, std::move(fd), std::move(receiver)));
  self->port_ = bound_port(self->listener_.get());
  DROVER_TRY(self->watch_, loop.watch(self->listener_.get(), EPOLLIN,
                                      [p = self.get()](std::uint32_t) { p->accept_one(); }));
  return self;
}

void DataPort::accept_one() {
  OwnedFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    // Out of descriptors: the oldest guest at the door makes room.
    if ((errno == EMFILE || errno == ENFILE) && !pending_.empty()) pending_.pop_front();
    return;
  }
  if (pending_.size() >= kMostPending) pending_.pop_front();
  const Entry entry = pending_.emplace(pending_.end());
  entry->socket = std::move(fd);
  auto watch = loop_.watch(entry->socket.get(), EPOLLIN,
                           [this, entry](std::uint32_t) { read_preamble(entry); });
  if (!watch) {
    pending_.erase(entry);
    return;
  }
  entry->watch = *std::move(watch);
  entry->timer = loop_.after(kPreamblePatience, [this, entry] { pending_.erase(entry); });
}

void DataPort::read_preamble(Entry entry) {
  const ssize_t n = ::recv(entry->socket.get(), entry->data.data() + entry->size,
                           kPreambleBytes - entry->size, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    pending_.erase(entry);
    return;
  }
  entry->size += static_cast<std::size_t>(n);
  if (entry->size < kPreambleBytes) return;
  const auto preamble = parse_preamble(entry->data);
  entry->watch.reset();
  OwnedFd socket = std::move(entry->socket);
  pending_.erase(entry);
  if (!preamble) {
    log_info("data port: connection refused: {}", preamble.error().message());
    return;
  }
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (set_blocking(socket.get(), true)) receiver_(std::move(socket), *preamble);
}

struct Dialler::Attempt {
  std::vector<NodeAddress> addresses;
  std::size_t next = 0;
  Preamble preamble;
  Done done;
  Error last = refusal("has no address");
  OwnedFd socket;
  EventLoop::Hold watch;  // before the socket goes
  EventLoop::Hold timer;
};

Dialler::~Dialler() {
  for (auto& [key, attempt] : attempts_) attempt->watch.reset();
}

void Dialler::dial(std::vector<NodeAddress> addresses, const Preamble& preamble, Done done) {
  auto attempt = std::make_shared<Attempt>();
  attempt->addresses = std::move(addresses);
  attempt->preamble = preamble;
  attempt->done = std::move(done);
  attempts_.emplace(attempt.get(), attempt);
  attempt->timer =
      loop_.after(std::chrono::nanoseconds::zero(), [this, attempt] { next_address(attempt); });
}

void Dialler::next_address(const std::shared_ptr<Attempt>& attempt) {
  if (attempt->next >= attempt->addresses.size()) {
    finish(attempt, attempt->last);
    return;
  }
  const NodeAddress address = attempt->addresses[attempt->next++];
  attempt->timer = loop_.after(kPatience, [this, attempt, address] {
    failed(attempt, Error{ETIMEDOUT, format_data_address(address)});
  });
  if (const auto numeric = look_up(address.host, address.data_port, AI_NUMERICHOST))
    connect(attempt, address, address.host);
  else
    resolve(attempt, address);
}

/// Looking up a name may wait for a name server, so it is done beside the loop.
void Dialler::resolve(const std::shared_ptr<Attempt>& attempt, const NodeAddress& address) {
  struct Answer {
    std::string ip;  // written before the event
    OwnedFd event;
  };
  auto answer = std::make_shared<Answer>();
  answer->event.reset(::eventfd(0, EFD_CLOEXEC));
  if (!answer->event) return failed(attempt, errno_error("eventfd"));
  auto watch =
      loop_.watch(answer->event.get(), EPOLLIN, [this, attempt, address, answer](std::uint32_t) {
        attempt->watch.reset();
        std::uint64_t count = 0;
        if (::read(answer->event.get(), &count, sizeof count) < 0 || answer->ip.empty())
          return failed(attempt, refusal(address.host + ": unknown host"));
        connect(attempt, address, answer->ip);
      });
  if (!watch) return failed(attempt, watch.error());
  attempt->watch = *std::move(watch);
  std::thread([answer, host = address.host, port = address.data_port] {
    if (const auto found = look_up(host, port, 0)) answer->ip = ip_text(**found);
    ::eventfd_write(answer->event.get(), 1);
  }).detach();
}

void Dialler::connect(const std::shared_ptr<Attempt>& attempt, const NodeAddress& address,
                      const std::string& ip) {
  const std::string what = format_data_address(address);
  const auto found = look_up(ip, address.data_port, AI_NUMERICHOST);
  if (!found) return failed(attempt, found.error());
  attempt->socket.reset(
      ::socket((*found)->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!attempt->socket) return failed(attempt, errno_error(what));
  const int on = 1;
  ::setsockopt(attempt->socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(attempt->socket.get(), (*found)->ai_addr, (*found)->ai_addrlen) < 0 &&
      errno != EINPROGRESS)
    return failed(attempt, errno_error(what));
  auto watch = loop_.watch(attempt->socket.get(), EPOLLOUT, [this, attempt, what](std::uint32_t) {
    int code = 0;
    socklen_t size = sizeof code;
    ::getsockopt(attempt->socket.get(), SOL_SOCKET, SO_ERROR, &code, &size);
    if (code != 0)
      failed(attempt, Error{code, what});
    else
      connected(attempt);
  });
  if (!watch) return failed(attempt, watch.error());
  attempt->watch = *std::move(watch);
}

void Dialler::connected(const std::shared_ptr<Attempt>& attempt) {
  attempt->watch.reset();
  const auto data = encode_preamble(attempt->preamble);
  // The send buffer of a new connection has room for it.
  if (::send(attempt->socket.get(), data.data(), data.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(data.size()))
    return failed(attempt, errno_error("send"));
  if (const Status blocking = set_blocking(attempt->socket.get(), true); !blocking)
    return failed(attempt, blocking.error());
  finish(attempt, std::move(attempt->socket));
}

void Dialler::failed(const std::shared_ptr<Attempt>& attempt, const Error& why) {
  attempt->watch.reset();
  attempt->socket.reset();
  attempt->last = why;
  attempt->timer =
      loop_.after(std::chrono::nanoseconds::zero(), [this, attempt] { next_address(attempt); });
}

void Dialler::finish(const std::shared_ptr<Attempt>& attempt, Result<OwnedFd> outcome) {
  attempt->timer.reset();
  attempts_.erase(attempt.get());
  attempt->done(std::move(outcome));
}

std::string format_data_address(const NodeAddress& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.data_port);
}

}  // namespace drover
