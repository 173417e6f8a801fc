#include "common/process/queued_signal.h"

#include <sys/syscall.h>

namespace drover {

Status queue_signal(Injection& injection, const ForeignMemory& memory, pid_t tid, bool to_thread,
                    const siginfo_t& info, ForeignAddress at) {
  const auto number = static_cast<std::uint64_t>(info.si_signo);
  const auto process = static_cast<std::uint64_t>(memory.pid());
  DROVER_CHECK(memory.write_record(at, info));
  const auto sent =
      to_thread
          ? injection.call("rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo,
                           {process, static_cast<std::uint64_t>(tid), number, at.value()})
          : injection.call("rt_sigqueueinfo", SYS_rt_sigqueueinfo, {process, number, at.value()});
  return sent ? Status{} : Status(sent.error());
}

}  // namespace drover
