#include "remote-syscall/home_schedules.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#include "remote-syscall/body_messages.h"

namespace drover {

bool HomeSchedules::are_changed_by(int number) {
  switch (number) {
    case SYS_setpriority:
    case SYS_sched_setaffinity:
    case SYS_sched_setattr:
    case SYS_sched_setparam:
    case SYS_sched_setscheduler:
      return true;
    default:
      return false;
  }
}

Status HomeSchedules::tell(const CallRequest& request, pid_t caller,
                           const std::list<HollowThread>& threads, SecureChannel& channel) {
  if (channel.protocol() < 2) return {};
  const bool one = request.number != SYS_setpriority || request.arguments[0] == PRIO_PROCESS;
  const auto named =
      static_cast<pid_t>(request.arguments[request.number == SYS_setpriority ? 1 : 0]);
  for (const HollowThread& thread : threads) {
    if (one && thread.tid() != (named == 0 ? caller : named)) continue;
    const auto now = schedule_of(thread.tid());
    if (!now) continue;  // it has ended
    DROVER_CHECK(channel.send(type(FrameType::kSchedule),
                              encode_record(ScheduleMessage{thread.tid(), 0, *now})));
  }
  return {};
}

}  // namespace drover
