#include "migrate/cache_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "common/log.h"

namespace drover {

namespace {

enum Operation : std::uint8_t { kFind = 1, kAdopt = 2 };
enum Outcome : std::uint8_t { kNothing = 0, kHere = 1, kFailed = 2 };

/// How long a guest waits, with its home waiting for it: contents can travel instead.
constexpr std::chrono::seconds kServerPatience{3};
/// How long the server waits for a guest that does not take its answer.
constexpr std::chrono::milliseconds kClientPatience{200};
constexpr std::size_t kMaxClients = 4096;
constexpr std::size_t kPiece = 1 << 20;
constexpr std::uint64_t kGuestsThatFillTheCache = 4;
/// What even the smallest file takes.
constexpr std::uint64_t kBlock = 4096;

/// The size of a file that nobody can change any more and whose reading never waits for anybody,
/// which is what the seals of a memory file say.
Result<std::uint64_t> sealed_size(const OwnedFd& file) {
  constexpr int kNeeded = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(file.get(), F_GET_SEALS);
  struct stat status;
  if (seals < 0 || (seals & kNeeded) != kNeeded || fstat(file.get(), &status) < 0) {
    return refusal("not a sealed memory file");
  }
  return static_cast<std::uint64_t>(status.st_size);
}

/// Only what the disk has room for.
Status copy_into(ContentCache::CacheFilling& filling, const OwnedFd& file, std::uint64_t size) {
  Bytes piece(std::min<std::uint64_t>(kPiece, size));
  for (std::uint64_t at = 0; at < size;) {
    const ssize_t n =
        pread(file.get(), piece.data(), std::min<std::uint64_t>(piece.size(), size - at),
              static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return errno_error("read offered content");
    DROVER_CHECK(filling.write(at, ByteView(piece.data(), static_cast<std::size_t>(n))));
    if (filling.in_memory()) return Error{ENOSPC, "keep content"};
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

Bytes encode_answer(const Result<std::optional<OwnedFd>>& result) {
  WireWriter out;
  if (!result) {
    out.number<std::uint8_t>(kFailed);
    out.number<std::int32_t>(result.error().code);
    out.text(result.error().what);
  } else {
    out.number<std::uint8_t>(*result ? kHere : kNothing);
  }
  return out.take();
}

}  // namespace

Status CacheServer::add_client(LocalSocket socket, std::string scope) {
  if (clients_.size() >= kMaxClients) return refusal("cache: too many clients");
  clients_.push_back({std::move(socket), std::move(scope)});
  return {};
}

Status CacheServer::serve(std::chrono::milliseconds timeout) {
  bool no_control = false;
  return serve_ready(timeout, nullptr, no_control);
}

Status CacheServer::run(LocalSocket control) {
  bool control_open = true;
  while (control_open) DROVER_CHECK(serve_ready(kForever, &control, control_open));
  return {};
}

Status CacheServer::serve_ready(std::chrono::milliseconds timeout, LocalSocket* control,
                                bool& control_open) {
  std::vector<pollfd> ready;
  for (const Client& client : clients_) ready.push_back({client.socket.fd(), POLLIN, 0});
  if (control) ready.push_back({control->fd(), POLLIN, 0});
  const int n = poll(ready.data(), ready.size(), static_cast<int>(timeout.count()));
  if (n < 0 && errno != EINTR) return errno_error("cache: poll");
  if (n <= 0) return {};
  std::vector<Client> kept;
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    if (!ready[i].revents || answer_next(clients_[i])) kept.push_back(std::move(clients_[i]));
  }
  clients_ = std::move(kept);
  if (!control || !ready.back().revents) return {};
  auto packet = control->receive(std::chrono::milliseconds(0));
  if (!packet) return packet.error().within("cache: control");
  control_open = packet->has_value();
  if (!control_open) return {};
  Packet& introduction = **packet;
  if (introduction.fds.size() != 1) return refusal("cache: control: one socket expected");
  return add_client(LocalSocket(std::move(introduction.fds[0])),
                    std::string(reinterpret_cast<const char*>(introduction.data.data()),
                                introduction.data.size()));
}

struct CacheServer::Request {
  std::uint8_t operation = 0;
  Sharing sharing = Sharing::kPrivate;
  ContentKey key{};
  OwnedFd contents;  ///< of kAdopt

  static Result<Request> decode(Packet packet) {
    WireReader in(packet.data);
    Request request;
    request.operation = in.number<std::uint8_t>();
    request.sharing = in.number<Sharing>();
    request.key = in.record<ContentKey>();
    DROVER_CHECK(in.finish("request"));
    const bool adopt = request.operation == kAdopt;
    if ((!adopt && request.operation != kFind) || request.sharing > Sharing::kPublic ||
        packet.fds.size() != (adopt ? 1 : 0)) {
      return refusal("request: malformed");
    }
    if (adopt) request.contents = std::move(packet.fds[0]);
    return request;
  }
};

Status CacheServer::answer_next(Client& client) {
  auto packet = client.socket.receive(std::chrono::milliseconds(0), 1);
  if (packet && !*packet) return refusal("closed");
  auto request = packet ? Request::decode(**std::move(packet)) : packet.error();
  if (!request) {
    log_warn("cache: client of {} dropped: {}", client.scope, request.error().message());
    return request.error();
  }
  const auto result = answer(client, *request);
  if (!result) log_info("cache: for {}: {}", client.scope, result.error().message());
  const int fd = result && *result ? (**result).get() : -1;
  return client.socket.send(encode_answer(result), std::span(&fd, fd >= 0 ? 1 : 0),
                            kClientPatience);
}

Result<std::optional<OwnedFd>> CacheServer::answer(Client& client, const Request& request) {
  const std::string scope = request.sharing == Sharing::kPublic ? kPublicScope : client.scope;
  if (request.operation == kFind) return cache_.find(scope, request.key);
  DROVER_TRY(OwnedFd file, adopt(client, scope, request));
  return std::optional(std::move(file));
}

Result<OwnedFd> CacheServer::adopt(Client& client, const std::string& scope,
                                   const Request& request) {
  DROVER_TRY(const std::uint64_t size, sealed_size(request.contents));
  // Another guest may have been faster.
  DROVER_TRY(auto present, cache_.find(scope, request.key));
  if (present) return *std::move(present);
  if (size > cache_.limit_bytes()) return Error{EFBIG, "content is larger than the cache"};
  DROVER_CHECK(charge(client, size));
  DROVER_TRY(auto filling, cache_.fill(scope, request.key, size));
  // A second copy in memory would be of no use: the guest has one.
  if (filling->in_memory()) return Error{ENOSPC, "keep content"};
  DROVER_CHECK(copy_into(*filling, request.contents, size));
  return filling->finish();
}

/// What turns out to be false is charged as well: it has cost as much.
Status CacheServer::charge(Client& client, std::uint64_t size) const {
  const std::uint64_t share = cache_.limit_bytes() / kGuestsThatFillTheCache;
  const std::uint64_t on_disk = std::max((size + kBlock - 1) / kBlock, std::uint64_t{1}) * kBlock;
  if (on_disk > share - client.offered_bytes) {
    return Error{EDQUOT, "this guest has put in its share"};
  }
  client.offered_bytes += on_disk;
  return {};
}

Status introduce_client(LocalSocket& control, const std::string& scope, LocalSocket socket) {
  const int fd = socket.fd();
  return control.send(as_bytes(scope), std::span(&fd, 1), std::chrono::milliseconds(0));
}

/// Fills memory, then offers it to the cache, whose copy all bodies of the node share. The cache
/// verifies what it takes; only what it does not take is verified here.
class CacheClient::OfferedFilling : public Filling {
 public:
  OfferedFilling(CacheClient& client, Sharing sharing, const ContentKey& key, HashedFile memory)
      : client_(client), sharing_(sharing), key_(key), memory_(std::move(memory)) {}

  Status write(std::uint64_t offset, ByteView data) override { return memory_.write(offset, data); }
  Result<OwnedFd> finish() override {
    DROVER_TRY(OwnedFd file, seal_memory_file(memory_.take()));
    if (auto cached = client_.ask(kAdopt, sharing_, key_, &file)) return *std::move(cached);
    DROVER_CHECK(verify_file(file, memory_.size(), key_));
    client_.memory_.keep(key_, file);
    return file;
  }

 private:
  CacheClient& client_;
  Sharing sharing_;
  ContentKey key_;
  HashedFile memory_;
};

Result<std::optional<OwnedFd>> CacheClient::find(Sharing sharing, const ContentKey& key) {
  DROVER_TRY(auto in_memory, memory_.find(sharing, key));
  if (in_memory) return in_memory;
  return ask(kFind, sharing, key, nullptr);
}

Result<std::unique_ptr<Filling>> CacheClient::fill(Sharing sharing, const ContentKey& key,
                                                   std::uint64_t size) {
  DROVER_TRY(OwnedFd memory, make_memory_file(size));
  return std::unique_ptr<Filling>(std::make_unique<OfferedFilling>(
      *this, sharing, key, HashedFile(std::move(memory), size, false)));
}

std::optional<OwnedFd> CacheClient::ask(std::uint8_t operation, Sharing sharing,
                                        const ContentKey& key, const OwnedFd* contents) {
  if (!server_) return std::nullopt;
  // After a lost or late answer the next one would be taken for another question's.
  const auto give_up = [&](Error error) {
    trouble_ = error.within("cache");
    server_.reset();
    return std::nullopt;
  };
  WireWriter request;
  request.number(operation);
  request.number(sharing);
  request.record(key);
  const int fd = contents ? contents->get() : -1;
  if (auto sent = server_->send(request.data(), std::span(&fd, contents ? 1 : 0)); !sent) {
    return give_up(sent.error());
  }
  auto packet = server_->receive(kServerPatience);
  if (!packet) return give_up(packet.error());
  if (!*packet) return give_up(refusal("its keeper has ended"));
  WireReader in((*packet)->data);
  const auto outcome = in.number<std::uint8_t>();
  if (outcome == kFailed) {
    const auto code = in.number<std::int32_t>();
    trouble_ = Error{code, "cache: " + in.text()};
    return std::nullopt;
  }
  if (outcome != kHere) return std::nullopt;
  if ((*packet)->fds.size() != 1) return give_up(refusal("malformed answer"));
  return std::move((*packet)->fds[0]);
}

}  // namespace drover
