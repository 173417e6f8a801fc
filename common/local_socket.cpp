#include "common/local_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>

namespace drover {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// Waits until one of `events` (or a hang-up) is there.
Status wait_for(int fd, short events, milliseconds timeout) {
  const bool forever = timeout < milliseconds::zero();
  const auto deadline = Clock::now() + (forever ? milliseconds::zero() : timeout);
  for (;;) {
    pollfd item{fd, events, 0};
    int left = -1;
    if (!forever) {
      const auto rest = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
      left = static_cast<int>(std::clamp<long>(rest, 0, 3600 * 1000));
    }
    const int ready = ::poll(&item, 1, left);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return errno_error("poll");
    if (!forever && Clock::now() >= deadline) return Error{ETIMEDOUT, "local socket"};
  }
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return Error{ENAMETOOLONG, path};
  path.copy(address.sun_path, path.size());
  return address;
}

Result<OwnedFd> new_socket(int flags) {
  OwnedFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd) return errno_error("socket");
  return fd;
}

Status connect_to(int fd, const std::string& path) {
  DROVER_TRY(const sockaddr_un address, address_of(path));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return errno_error(path);
  return {};
}

/// Makes sure that `path` may be taken: nothing there, or a socket that nobody serves.
Status check_free(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) < 0) {
    if (errno == ENOENT) return {};
    return errno_error(path);
  }
  if (!S_ISSOCK(status.st_mode)) return Error{ENOTSOCK, path};
  DROVER_TRY(const OwnedFd probe, new_socket(SOCK_NONBLOCK));
  Status served = connect_to(probe.get(), path);
  if (!served && served.error().code == ECONNREFUSED) return {};
  if (served || served.error().code == EAGAIN) return Error{EADDRINUSE, path};
  return served;
}

/// Room for the descriptors of one packet, aligned as cmsg(3) wants it.
union ControlBuffer {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int) * kMaxPacketFds)];
};

std::vector<OwnedFd> take_fds(msghdr& message) {
  std::vector<OwnedFd> fds;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

LocalSocket::LocalSocket(OwnedFd socket) : socket_(std::move(socket)) {
  // The kernel's default send buffer is smaller than kMaxPacketBytes; where the limit of the
  // machine (net.core.wmem_max) forbids the room, a large send says EMSGSIZE.
  const int room = 2 * static_cast<int>(kMaxPacketBytes);
  if (::setsockopt(fd(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
    ::setsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
}

Result<LocalSocket> LocalSocket::connect(const std::string& path) {
  DROVER_TRY(OwnedFd fd, new_socket(0));
  DROVER_CHECK(connect_to(fd.get(), path));
  return LocalSocket(std::move(fd));
}

Result<std::pair<LocalSocket, LocalSocket>> LocalSocket::pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
    return errno_error("socketpair");
  return std::pair{LocalSocket(OwnedFd(fds[0])), LocalSocket(OwnedFd(fds[1]))};
}

Status LocalSocket::send(ByteView data, std::span<const int> fds, milliseconds timeout) {
  if (data.empty()) return Error{EINVAL, "send an empty packet"};
  if (data.size() > kMaxPacketBytes) return Error{EMSGSIZE, "send"};
  if (fds.size() > kMaxPacketFds) return Error{ETOOMANYREFS, "send"};

  iovec part{const_cast<std::byte*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ControlBuffer control{};
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return {};
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return errno_error("send");
    DROVER_CHECK(wait_for(fd(), POLLOUT, timeout));
  }
}

Result<std::optional<Packet>> LocalSocket::receive(milliseconds timeout, std::size_t most_fds) {
  ssize_t size;
  bool waited = false;
  // MSG_TRUNC with MSG_PEEK gives the length of the packet (recv(2)), and EOF gives 0.
  while ((size = ::recv(fd(), nullptr, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT)) < 0) {
    // The peer closed with packets unread (said once); what it sent before is still here.
    if (errno == EINTR || errno == ECONNRESET) continue;
    if (errno != EAGAIN) return errno_error("receive");
    // Readable, and nothing to read: somebody who has this end, too, has read it or has moved its
    // peek offset (SO_PEEK_OFF). To wait again might be to wait for ever.
    if (waited) return Error{EPROTO, "receive"};
    DROVER_CHECK(wait_for(fd(), POLLIN, timeout));
    waited = true;
  }
  if (size == 0) return std::optional<Packet>();

  Packet packet;
  packet.data.resize(std::min<std::size_t>(static_cast<std::size_t>(size), kMaxPacketBytes));
  iovec part{packet.data.data(), packet.data.size()};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (most_fds > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_LEN(std::min(most_fds, kMaxPacketFds) * sizeof(int));
  }
  do {
    size = ::recvmsg(fd(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
  if (size < 0) return errno_error("receive");
  packet.fds = take_fds(message);
  if (message.msg_flags & MSG_TRUNC) return Error{EMSGSIZE, "receive"};
  if (message.msg_flags & MSG_CTRUNC) return Error{EMFILE, "receive descriptors"};
  packet.data.resize(static_cast<std::size_t>(size));
  return std::optional(std::move(packet));
}

Result<PeerCredentials> LocalSocket::peer() const {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
    return errno_error("peer credentials");
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

LocalListener::LocalListener(OwnedFd socket, std::string path, dev_t device, ino_t inode)
    : socket_(std::move(socket)), path_(std::move(path)), device_(device), inode_(inode) {}

Result<LocalListener> LocalListener::open(const std::string& path) {
  DROVER_CHECK(check_free(path));
  // Bound under another name and renamed into place: nobody ever meets it before it listens
  // or with the wrong mode.
  const std::string temporary = path + "." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  DROVER_TRY(OwnedFd fd, new_socket(SOCK_NONBLOCK));
  DROVER_TRY(const sockaddr_un address, address_of(temporary));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return errno_error(path);
  struct stat status {};
  if (::chmod(temporary.c_str(), 0666) < 0 || ::lstat(temporary.c_str(), &status) < 0 ||
      ::listen(fd.get(), SOMAXCONN) < 0 || ::rename(temporary.c_str(), path.c_str()) < 0) {
    const Error error = errno_error(path);
    ::unlink(temporary.c_str());
    return error;
  }
  return LocalListener(std::move(fd), path, status.st_dev, status.st_ino);
}

LocalListener::~LocalListener() {
  struct stat status {};
  if (socket_ && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_)
    ::unlink(path_.c_str());
}

Result<LocalSocket> LocalListener::accept(milliseconds timeout) {
  for (;;) {
    OwnedFd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd) return LocalSocket(std::move(fd));
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) return errno_error("accept");
    DROVER_CHECK(wait_for(socket_.get(), POLLIN, timeout));
  }
}

}  // namespace drover
