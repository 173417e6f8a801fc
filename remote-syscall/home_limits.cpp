#include "remote-syscall/home_limits.h"

#include <sys/syscall.h>

#include "remote-syscall/body_messages.h"

namespace drover {

Status HomeLimits::tell_changes(SecureChannel& channel) {
  if (channel.protocol() < 2) return {};
  const auto now = memory_limits_of(pid_);
  if (!now || told_ == *now) return {};  // one that has ended has none
  told_ = *now;
  return channel.send(type(FrameType::kLimits), encode_record(*now));
}

bool HomeLimits::are_changed_by(int number) {
  return number == SYS_setrlimit || number == SYS_prlimit64;
}

}  // namespace drover
