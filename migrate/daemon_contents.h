// The content cache's keeper: the one program of this node that guests get contents from.
#pragma once

#include <optional>
#include <string>

#include "migrate/daemon_children.h"
#include "migrate/daemon_settings.h"
#include "migrate/spawn.h"

namespace drover {

class ContentKeeper {
 public:
  ContentKeeper(NodeContext& context, Children& children)
      : context_(context), children_(children) {}

  /// The socket of a new guest of that user of that home. Nothing if there is no keeper to be had:
  /// then contents travel, and the log says why.
  std::optional<LocalSocket> introduce(const std::string& home, std::uint32_t uid);

 private:
  Status start();

  NodeContext& context_;
  Children& children_;
  std::optional<Spawned> keeper_;
  EventLoop::Clock::time_point not_before_{};  ///< when it may be started again
};

}  // namespace drover
