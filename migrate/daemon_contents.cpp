#include "migrate/daemon_contents.h"

#include "common/log.h"
#include "migrate/cache_server.h"

namespace drover {
namespace {

/// One that cannot run is not started for every guest anew.
constexpr std::chrono::seconds kPause{10};

}  // namespace

std::optional<LocalSocket> ContentKeeper::introduce(const std::string& home, std::uint32_t uid) {
  const Status running = keeper_ ? Status{} : start();
  if (!running) {
    log_warn("content cache: {}: contents travel with every move", running.error().message());
    return std::nullopt;
  }
  auto sockets = LocalSocket::pair();
  if (!sockets) return std::nullopt;
  const Status introduced =
      introduce_client(keeper_->socket, private_scope(home, uid), std::move(sockets->second));
  if (!introduced) {
    log_warn("content cache: {}", introduced.error().message());
    return std::nullopt;
  }
  return std::move(sockets->first);
}

Status ContentKeeper::start() {
  const auto now = EventLoop::Clock::now();
  if (now < not_before_) return refusal("its keeper has only just ended");
  not_before_ = now + kPause;
  const DaemonSettings& s = context_.settings;
  DROVER_TRY(keeper_, spawn_content_keeper(s.spawn, s.cache_dir, s.cache_bytes));
  children_.expect(keeper_->pid, [this](int) {
    log_warn("content cache: its keeper has ended; the next guest starts it again");
    keeper_.reset();
  });
  return {};
}

}  // namespace drover
