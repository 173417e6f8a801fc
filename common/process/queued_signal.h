// Signals with all that is known of them, sent by a process to itself.
#pragma once

#include <csignal>

#include "common/process/injection.h"

namespace drover {

/// Whether the signal was sent to one thread, which alone may ever get it, as far as can be told
/// from it: the kernel does not say. What a process queues to itself (SI_QUEUE) is taken for sent
/// by pthread_sigqueue(3), not by sigqueue(3).
inline bool is_for_thread(const siginfo_t& info, pid_t process) {
  return info.si_code == SI_TKILL || (info.si_code == SI_QUEUE && info.si_pid == process);
}

/// Whether the kernel keeps no second one while this one is pending: a standard signal, and what a
/// timer sends, which counts its overruns instead (timer_create(2)).
inline bool is_pending_once(const siginfo_t& info) {
  constexpr int kFirstRealtime = 32;
  return info.si_signo < kFirstRealtime || info.si_code == SI_TIMER;
}

/// Makes thread `tid` of process `pid`, which is borrowed, send the signal: to itself if
/// `to_thread`, to the process otherwise, which of most signals only the leading thread may
/// (rt_sigqueueinfo(2)). The siginfo_t is written to `at` for it.
Status queue_signal(Injection& injection, const ForeignMemory& memory, pid_t tid, bool to_thread,
                    const siginfo_t& info, ForeignAddress at);

}  // namespace drover
