// The content cache as a service: one trusted program per node keeps it, guests ask it over a
// local socket. What crosses the socket are keys and descriptors, never contents.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/local_socket.h"
#include "common/result.h"
#include "migrate/content_cache.h"
#include "migrate/content_store.h"

namespace drover {

/// Serves a cache to guests, one request after the other. Runs in a process of its own, as the
/// cache's user and without capabilities: it reads what guests pass in, though only to hash and
/// copy it. One guest gets at most a quarter of the cache's size to put in; what it has beyond
/// that it keeps to itself.
class CacheServer {
 public:
  explicit CacheServer(ContentCache cache) : cache_(std::move(cache)) {}

  /// Serves a guest from now on. Its private contents are those of `scope` (private_scope); a
  /// guest cannot name another.
  Status add_client(LocalSocket socket, std::string scope);

  /// Waits at most `timeout` for requests and answers those that are there. A client that has
  /// closed, breaks the protocol or does not read its answers is dropped.
  Status serve(std::chrono::milliseconds timeout);

  /// Serves until `control` is closed by the other end. Every packet on it is a new client: the
  /// data is its scope, the one descriptor its socket (introduce_client sends such a packet).
  Status run(LocalSocket control);

  std::size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    LocalSocket socket;
    std::string scope;
    std::uint64_t offered_bytes = 0;  ///< of contents that were new, as the disk counts them
  };
  struct Request;
  /// Failure means that the client is to be dropped.
  Status answer_next(Client& client);
  Result<std::optional<OwnedFd>> answer(Client& client, const Request& request);
  Result<OwnedFd> adopt(Client& client, const std::string& scope, const Request& request);
  Status charge(Client& client, std::uint64_t size) const;
  Status serve_ready(std::chrono::milliseconds timeout, LocalSocket* control, bool& control_open);

  ContentCache cache_;
  std::vector<Client> clients_;
};

/// Tells a CacheServer in `run` of a new guest, whose end of the socket pair is `socket`. Never
/// waits, for whoever calls has others to serve: ETIMEDOUT if the server is behind with its work.
Status introduce_client(LocalSocket& control, const std::string& scope, LocalSocket socket);

/// A guest's view of the cache. A cache that is gone, slow or full never fails a move: contents
/// then stay in this program's memory, as in a MemoryStore, and `trouble` says why.
class CacheClient : public ContentStore {
 public:
  explicit CacheClient(LocalSocket server) : server_(std::move(server)) {}

  Result<std::optional<OwnedFd>> find(Sharing sharing, const ContentKey& key) override;
  Result<std::unique_ptr<Filling>> fill(Sharing sharing, const ContentKey& key,
                                        std::uint64_t size) override;

  /// The last thing that kept the cache from being used, or nothing.
  const std::optional<Error>& trouble() const { return trouble_; }

 private:
  class OfferedFilling;
  std::optional<OwnedFd> ask(std::uint8_t operation, Sharing sharing, const ContentKey& key,
                             const OwnedFd* contents);

  std::optional<LocalSocket> server_;  ///< nothing once it has failed
  MemoryStore memory_;
  std::optional<Error> trouble_;
};

}  // namespace drover
