// How the threads of a process that is away are scheduled: home decides, and the guest is told, for
// the body is to follow.
#pragma once

#include <list>
#include <map>

#include "common/process/schedule.h"
#include "common/secure_channel.h"
#include "remote-syscall/hollow_thread.h"
#include "remote-syscall/marshal.h"

namespace drover {

class HomeSchedules {
 public:
  /// Whether a call may change how threads are scheduled.
  static bool are_changed_by(int number);

  /// Thread `caller` has made such a call: tells the guest of the threads that it concerns.
  static Status tell(const CallRequest& request, pid_t caller,
                     const std::list<HollowThread>& threads, SecureChannel& channel);
};

}  // namespace drover
