// The ends of migrated's child processes.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>

#include "common/owned_fd.h"
#include "common/result.h"
#include "migrate/daemon_events.h"

namespace drover {

/// Reaps every child (SIGCHLD by signalfd(2)) and tells who asked.
class Children {
 public:
  using Handler = std::function<void(int wait_status)>;

  /// SIGCHLD must be blocked already, before any thread was started.
  static Result<std::unique_ptr<Children>> create(EventLoop& loop);

  /// Calls `handler` when the child `pid` has ended. Ask in the turn of the event loop in which
  /// it was started.
  void expect(pid_t pid, Handler handler) { handlers_[pid] = std::move(handler); }
  void forget(pid_t pid) { handlers_.erase(pid); }

 private:
  explicit Children(OwnedFd signals) : signals_(std::move(signals)) {}
  void reap();

  OwnedFd signals_;
  EventLoop::Hold watch_;
  std::map<pid_t, Handler> handlers_;
};

}  // namespace drover
