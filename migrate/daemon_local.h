// The local socket: what tools ask, checked against the table of verbs by who they are.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/local_socket.h"
#include "migrate/daemon_events.h"
#include "migrate/local.pb.h"
#include "migrate/verbs.h"

namespace drover {

/// A request as it came from the socket, its fields checked for form.
Result<local::Request> parse_local_request(ByteView data);

class LocalServer {
 public:
  using Replies = std::vector<local::Reply>;
  /// Calls the first with the whole answer or an error, now or later, once.
  using Answer = std::function<void(Result<Replies>)>;
  using Asked = std::function<void(const PeerCredentials& who, const local::Request&, Answer)>;
  /// A connection that asked for something has closed.
  using Closed = std::function<void(const PeerCredentials& who)>;

  static Result<std::unique_ptr<LocalServer>> open(EventLoop& loop, const std::string& path,
                                                   Asked asked, Closed closed);

  /// So many connections there may be, and so many of one user who is not root.
  static constexpr std::size_t kMostConnections = 2048;
  static constexpr std::size_t kMostOfOneUser = 256;

 private:
  struct Connection {
    Connection(LocalSocket s, PeerCredentials w) : socket(std::move(s)), who(w) {}
    LocalSocket socket;
    PeerCredentials who;
    EventLoop::Hold watch;  // before the socket goes
    bool busy = false;      // a request is being answered; the next waits in the socket
  };

  LocalServer(EventLoop& loop, LocalListener listener, Asked asked, Closed closed)
      : loop_(loop),
        listener_(std::move(listener)),
        asked_(std::move(asked)),
        closed_(std::move(closed)) {}
  void accept_one();
  void read(std::uint64_t id);
  void answer(std::uint64_t id, Result<Replies> replies);
  void close(std::uint64_t id);
  std::size_t connections_of(uid_t uid) const;

  EventLoop& loop_;
  LocalListener listener_;
  Asked asked_;
  Closed closed_;
  EventLoop::Hold watch_;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t next_ = 1;
};

}  // namespace drover
