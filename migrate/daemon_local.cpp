#include "migrate/daemon_local.h"

#include <algorithm>

#include "common/log.h"
#include "common/names.h"
#include "migrate/messages.h"

namespace drover {
namespace {

constexpr std::chrono::milliseconds kNoWait{0};

Status check_target(const std::string& target) {
  if (!valid_name(target)) return refusal("not a node's name");
  return {};
}

}  // namespace

Result<local::Request> parse_local_request(ByteView data) {
  DROVER_TRY(auto request, decode_message<local::Request>(data, "request"));
  using Case = local::Request;
  switch (request.request_case()) {
    case Case::kRegisterJob:
      if (!request.register_job().start_on().empty())
        DROVER_CHECK(check_target(request.register_job().start_on()));
      break;
    case Case::kMigrateJob:
      if (request.migrate_job().pid() <= 0) return refusal("not a process id");
      DROVER_CHECK(check_target(request.migrate_job().target()));
      break;
    case Case::kJobDetails:
      if (request.job_details().pid() <= 0) return refusal("not a process id");
      break;
    case Case::kListJobs:
    case Case::kListGuests:
    case Case::kStatus:
      break;
    case Case::REQUEST_NOT_SET:
      return refusal("a request that migrated does not know");
  }
  return request;
}

Result<std::unique_ptr<LocalServer>> LocalServer::open(EventLoop& loop, const std::string& path,
                                                       Asked asked, Closed closed) {
  DROVER_TRY(LocalListener listener, LocalListener::open(path));
  std::unique_ptr<LocalServer> self(
      new LocalServer(loop, std::move(listener), std::move(asked), std::move(closed)));
  DROVER_TRY(self->watch_, loop.watch(self->listener_.fd(), EPOLLIN,
                                      [s = self.get()](std::uint32_t) { s->accept_one(); }));
  return self;
}

void LocalServer::accept_one() {
  auto socket = listener_.accept(kNoWait);
  if (!socket) return;
  const auto who = socket->peer();
  if (!who) return;
  if (connections_.size() >= kMostConnections ||
      (who->uid != 0 && connections_of(who->uid) >= kMostOfOneUser)) {
    log_warn("local socket: too many connections of uid {}", who->uid);
    return;
  }
  const std::uint64_t id = next_++;
  auto connection = std::make_unique<Connection>(*std::move(socket), *who);
  auto watch =
      loop_.watch(connection->socket.fd(), EPOLLIN, [this, id](std::uint32_t) { read(id); });
  if (!watch) return;
  connection->watch = *std::move(watch);
  connections_.emplace(id, std::move(connection));
}

void LocalServer::read(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  auto packet = connection.socket.receive(kNoWait, 0);
  if (!packet && packet.error().code == ETIMEDOUT) return;
  if (!packet || !*packet) return close(id);
  const auto request = parse_local_request((*packet)->data);
  if (!request) return answer(id, request.error());
  connection.busy = true;
  // Hang-ups are still told; requests wait.
  if (!loop_.change(connection.watch, EPOLLRDHUP)) return close(id);
  asked_(connection.who, *request,
         [this, id](Result<Replies> replies) { answer(id, std::move(replies)); });
}

void LocalServer::answer(std::uint64_t id, Result<Replies> replies) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;  // who asked has gone
  Connection& connection = *found->second;
  if (!replies) {
    local::Reply refused;
    refused.set_error(replies.error().message());
    replies = Replies{std::move(refused)};
  }
  for (std::size_t i = 0; i < replies->size(); ++i) {
    (*replies)[i].set_more(i + 1 < replies->size());
    // One that does not read its answer is not waited for.
    if (!connection.socket.send(encode_message((*replies)[i]), {}, kNoWait)) return close(id);
  }
  connection.busy = false;
  if (!loop_.change(connection.watch, EPOLLIN)) close(id);
}

void LocalServer::close(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const std::unique_ptr<Connection> connection = std::move(found->second);
  connections_.erase(found);
  connection->watch.reset();
  closed_(connection->who);
}

std::size_t LocalServer::connections_of(uid_t uid) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      connections_, [&](const auto& entry) { return entry.second->who.uid == uid; }));
}

}  // namespace drover
