// The guest's part in timers and limits by CPU time: home keeps them; the guest tells it what the
// body has used, when home asks for it and before calls that are about it.
#pragma once

#include <map>
#include <optional>

#include "common/secure_channel.h"
#include "remote-syscall/body.h"
#include "remote-syscall/cpu_messages.h"
#include "remote-syscall/marshal.h"

namespace drover {

class CpuWatch {
 public:
  /// Both outlive this.
  CpuWatch(Body& body, SecureChannel& channel) : body_(&body), channel_(&channel) {}

  /// The body runs, or ends: the first and the last word.
  Status tell() { return tell({}); }
  /// Before thread `caller` asks home for a call: tells what it has to know for that, and what the
  /// body has used since it was told last, if that is much.
  Status before_call(const CallRequest& request, std::int32_t caller);

  /// Before the thread tells home of a mask that lets signals through.
  Status before_unblocking(std::int32_t caller);

  /// What home wants to be told, from now on.
  Status watch(const CpuWatchMessage& message);
  /// A CpuAlarm rang.
  Status on_alarm();

 private:
  using Readings = std::map<std::int32_t, CpuTime>;

  struct Share {
    std::uint64_t used = 0;
    std::int64_t due = 0;  // of what the process has used, beyond what it was told of
  };

  Status tell(std::optional<std::int32_t> caller, bool rang = false);
  bool reached();
  Status set_alarms();
  bool has_used_much();
  std::int32_t next_user(bool has_its_turn);

  Body* body_;
  SecureChannel* channel_;
  std::optional<CpuAlarm> alarm_;
  std::optional<CpuWatchMessage> watch_;
  bool home_counts_ = true;  // as far as we know
  CpuTime told_;
  std::map<std::int32_t, Share> shares_;
};

}  // namespace drover
