// The limits of a process that is away, as home has them: its guest is told of every change,
// whoever makes it.
#pragma once

#include <optional>

#include "common/process/limits.h"
#include "common/secure_channel.h"

namespace drover {

class HomeLimits {
 public:
  explicit HomeLimits(pid_t pid) : pid_(pid) {}

  /// Tells the guest if they are not what it was told last.
  Status tell_changes(SecureChannel& channel);
  /// Another guest may not know.
  void begin_anew() { told_.reset(); }

  /// Whether a call may have changed them.
  static bool are_changed_by(int number);

 private:
  pid_t pid_;
  std::optional<MemoryLimits> told_;
};

}  // namespace drover
