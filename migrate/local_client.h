// The tools' side of migrated's local socket.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/local_socket.h"
#include "migrate/local.pb.h"

namespace drover {

/// Name of the local socket below the run directory.
inline constexpr char kLocalSocketName[] = "migrated.sock";

/// One connection of a tool to this node's migrated.
class LocalClient {
 public:
  /// Connects to the socket in `run_dir`.
  static Result<LocalClient> connect(const std::string& run_dir);

  /// Asks and gives the whole answer. What migrated refuses is an error in its words; no
  /// answer within `patience` is one too.
  Result<std::vector<local::Reply>> ask(const local::Request& request,
                                        std::chrono::milliseconds patience = kPatience);
  /// The same for requests that have an answer of one message.
  Result<local::Reply> ask_one(const local::Request& request,
                               std::chrono::milliseconds patience = kPatience);

  static constexpr std::chrono::milliseconds kPatience{15000};

 private:
  explicit LocalClient(LocalSocket socket) : socket_(std::move(socket)) {}
  LocalSocket socket_;
};

}  // namespace drover
