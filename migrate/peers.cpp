#include "migrate/peers.h"

#include <algorithm>

#include "common/log.h"

namespace drover {
namespace {

constexpr char kBodyLabel[] = "body";

}  // namespace

Bytes body_key_context(const std::string& job, std::uint64_t epoch, const Ticket& ticket) {
  WireWriter writer;
  writer.text(job);
  writer.number(epoch);
  writer.raw(ticket);
  return writer.take();
}

void Peers::connect(const std::string& node, Connected connected) {
  if (const auto found = dialled_.find(node); found != dialled_.end()) {
    const LinkPtr link = found->second;
    if (link->tls && link->tls->established())
      connected(link->name);
    else
      link->waiting.push_back(std::move(connected));
    return;
  }
  const Member* member = context_.membership->active(node);
  if (member == nullptr) return connected(refusal(node + " is not a member of the cluster"));
  auto link = std::make_shared<Link>();
  link->name = random_ticket();
  link->node = node;
  link->waiting.push_back(std::move(connected));
  link->timer = context_.loop.after(kPatience, [this, link] {
    over(link, Error{ETIMEDOUT, "the link to " + link->node});
  });
  dialled_.emplace(node, link);
  dialler_.dial(member->addresses, {Preamble::Kind::kPeerLink, link->name},
                [this, link](Result<OwnedFd> socket) { dialled(link, std::move(socket)); });
}

void Peers::accept(OwnedFd socket, const LinkName& name) {
  make_room("", kMostUnproved);
  auto link = std::make_shared<Link>();
  link->name = name;
  link->accepted = true;
  auto tls =
      PeerLink::accept(std::move(socket), context_.keys.identity(),
                       [this](std::span<const std::byte, 32> key) -> std::optional<std::string> {
                         Ed25519PublicKey shown;
                         std::ranges::copy(key, shown.begin());
                         const Member* member = context_.membership->active_by_identity(shown);
                         if (member == nullptr) return std::nullopt;
                         return member->name;
                       });
  if (!tls) return log_warn("peer link: {}", tls.error().message());
  link->tls = std::make_unique<PeerLink>(*std::move(tls));
  link->timer = context_.loop.after(kPatience, [this, link] {
    over(link, Error{ETIMEDOUT, "peer link"});
  });
  accepted_.push_back(link);
  if (const Status started = start(link); !started) over(link, started.error());
}

Result<ChannelKey> Peers::body_key(const std::string& node, const LinkName& name, bool accepted,
                                   const std::string& job, std::uint64_t epoch,
                                   const Ticket& ticket) const {
  const auto derive = [&](const Link& link) {
    return link.tls->derive_key(kBodyLabel, body_key_context(job, epoch, ticket));
  };
  if (!accepted) {
    const auto found = dialled_.find(node);
    if (found != dialled_.end() && found->second->name == name && found->second->tls)
      return derive(*found->second);
  } else {
    for (const LinkPtr& link : accepted_)
      if (link->node == node && link->name == name) return derive(*link);
  }
  return Error{ENOLINK, "has lost the link with " + node};
}

void Peers::forget(const std::string& node, const LinkName& name) {
  const auto found = dialled_.find(node);
  if (found != dialled_.end() && found->second->name == name)
    over(LinkPtr(found->second), refusal("it has ended there"));
}

void Peers::drop(const std::string& node) {
  const Error why = refusal(node + " has been revoked");
  if (const auto found = dialled_.find(node); found != dialled_.end())
    over(LinkPtr(found->second), why);
  const auto accepted = accepted_;
  for (const LinkPtr& link : accepted)
    if (link->node == node) over(link, why);
}

void Peers::dialled(const LinkPtr& link, Result<OwnedFd> socket) {
  const auto present = dialled_.find(link->node);
  if (present == dialled_.end() || present->second != link) return;  // given up meanwhile
  const Member* member = context_.membership->active(link->node);
  if (!socket) return over(link, socket.error());
  if (member == nullptr) return over(link, refusal(link->node + " has been revoked"));
  auto tls = PeerLink::dial(*std::move(socket), context_.keys.identity(), link->node,
                            member->keys.identity);
  if (!tls) return over(link, tls.error());
  link->tls = std::make_unique<PeerLink>(*std::move(tls));
  if (const Status started = start(link); !started) over(link, started.error());
}

Status Peers::start(const LinkPtr& link) {
  DROVER_TRY(link->watch, context_.loop.watch(link->tls->fd(), EPOLLIN,
                                              [this, link](std::uint32_t) { step(link); }));
  step(link);
  return {};
}

void Peers::step(const LinkPtr& link) {
  const bool was_established = link->tls->established();
  const auto progress = link->tls->step();
  if (!progress) return over(link, progress.error());
  const std::uint32_t events = link->tls->wants_write() ? EPOLLIN | EPOLLOUT : EPOLLIN;
  if (const Status changed = context_.loop.change(link->watch, events); !changed)
    return over(link, changed.error());
  if (!was_established && link->tls->established()) established(link);
}

void Peers::established(const LinkPtr& link) {
  link->timer.reset();
  if (link->accepted) {
    make_room(link->tls->peer_name(), kMostOfOneNode - 1);
    link->node = link->tls->peer_name();
  }
  log_info("link {} {} is up", link->accepted ? "from" : "to", link->node);
  for (Connected& connected : std::exchange(link->waiting, {})) connected(link->name);
}

/// A link has ended, or never came to be.
void Peers::over(const LinkPtr& link, const Error& why) {
  if (link->accepted) {
    accepted_.remove(link);
  } else if (const auto found = dialled_.find(link->node);
             found != dialled_.end() && found->second == link) {
    dialled_.erase(found);
  }
  log_info("link {} {} has ended: {}", link->accepted ? "from" : "to",
           link->node.empty() ? "an unknown peer" : link->node, why.message());
  link->timer.reset();
  link->watch.reset();
  if (link->tls) link->tls->close();
  for (Connected& connected : std::exchange(link->waiting, {})) connected(why);
}

/// Leaves at most `most` accepted links of `node` (empty: of those not yet established).
void Peers::make_room(const std::string& node, std::size_t most) {
  std::vector<LinkPtr> links;
  std::ranges::copy_if(accepted_, std::back_inserter(links),
                       [&](const LinkPtr& link) { return link->node == node; });
  for (std::size_t i = 0; i + most < links.size(); ++i) over(links[i], refusal("too many links"));
}

}  // namespace drover
