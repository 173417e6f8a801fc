#include "migrate/body_end.h"

#include <algorithm>
#include <thread>

#include "migrate/lease.h"
#include "remote-syscall/body_messages.h"

namespace drover {

using Clock = std::chrono::steady_clock;

bool tells_end(const Frame& frame) {
  return frame.type == type(FrameType::kEnded) || frame.type == type(FrameType::kFailed);
}

void end_body(SecureChannel& channel, Clock::time_point committed_at,
              const std::function<void()>& meanwhile) {
  const auto lease_end = committed_at + kLease + kMargin;
  static_cast<void>(channel.send(type(FrameType::kDiscard), {}));
  while (Clock::now() < lease_end) {
    meanwhile();
    const auto next = Clock::now() + kHeartbeatPeriod;
    const auto frame = channel.receive_within(kHeartbeatPeriod);
    if (frame && tells_end(*frame)) break;
    if (!frame) std::this_thread::sleep_until(std::min(next, lease_end));
  }
  static_cast<void>(channel.close());
}

}  // namespace drover
