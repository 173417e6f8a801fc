// The links to other nodes' daemons: one TLS handshake a pair and direction, from which the
// keys of all bodies between the two are derived.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/peer_link.h"
#include "migrate/daemon_data_port.h"
#include "migrate/daemon_settings.h"
#include "migrate/tickets.h"

namespace drover {

/// The context that a body's key is derived with: which job, which epoch, which connection.
Bytes body_key_context(const std::string& job, std::uint64_t epoch, const Ticket& ticket);

class Peers {
 public:
  /// A link's name: chosen by its dialler at random, sent in its preamble, so that both ends
  /// mean the same link whatever broke and was made again.
  using LinkName = Ticket;
  using Connected = std::function<void(Result<LinkName>)>;

  Peers(NodeContext& context, Dialler& dialler) : context_(context), dialler_(dialler) {}

  /// Gives the link that this node has dialled to `node`, making one if there is none.
  void connect(const std::string& node, Connected connected);
  /// Takes a connection that another node has dialled.
  void accept(OwnedFd socket, const LinkName& name);

  /// The key of a body channel, by a link that this node has dialled or, with `accepted`, that
  /// the node dialled. Fails, with ENOLINK, if there is no such link any more.
  Result<ChannelKey> body_key(const std::string& node, const LinkName& link, bool accepted,
                              const std::string& job, std::uint64_t epoch,
                              const Ticket& ticket) const;

  /// Closes a link that this node has dialled, unless another has taken its place: the node says
  /// that it has ended there.
  void forget(const std::string& node, const LinkName& name);

  /// Closes all links with the node: it has been revoked.
  void drop(const std::string& node);

  static constexpr std::chrono::seconds kPatience{5};
  /// Accepted links that have not proved who they are yet, and those that one node may have.
  static constexpr std::size_t kMostUnproved = 64;
  static constexpr std::size_t kMostOfOneNode = 4;

 private:
  struct Link {
    LinkName name{};
    std::string node;  // of an accepted one: empty until it is established
    bool accepted = false;
    std::unique_ptr<PeerLink> tls;  // before watch: it owns the descriptor
    EventLoop::Hold watch;
    EventLoop::Hold timer;
    std::vector<Connected> waiting;
  };
  using LinkPtr = std::shared_ptr<Link>;

  void dialled(const LinkPtr& link, Result<OwnedFd> socket);
  Status start(const LinkPtr& link);
  void step(const LinkPtr& link);
  void established(const LinkPtr& link);
  void over(const LinkPtr& link, const Error& why);
  void make_room(const std::string& node, std::size_t most);

  NodeContext& context_;
  Dialler& dialler_;
  std::map<std::string, LinkPtr> dialled_;
  std::list<LinkPtr> accepted_;  // oldest first
};

}  // namespace drover
