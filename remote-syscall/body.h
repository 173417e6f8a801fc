// A body: the user context of a process, running on a node that is not its home.
#pragma once

#include <array>
#include <list>
#include <optional>

#include "common/owned_fd.h"
#include "common/process/foreign_memory.h"
#include "common/process/limits.h"
#include "common/process/page_map.h"
#include "common/process/scratch.h"
#include "common/process/traced_thread.h"
#include "remote-syscall/body_messages.h"
#include "remote-syscall/cpu_account.h"

namespace drover {

struct BodyThread {
  pid_t tid = -1;             ///< as the guest sees it
  std::int32_t home_tid = 0;  ///< as it sees itself, and that of P's thread
  TracedThread thread;
  std::uint64_t clear_child_tid = 0;
  SignalMask declared_mask = 0;           ///< what P was last told
  SignalMask blocked_by_handlers = 0;     ///< of that: not by the program itself
  std::optional<Schedule> schedule = {};  ///< at home, as far as we have heard
};

struct Body {
  pid_t pid = -1;                 ///< as the guest sees it
  std::int32_t home_pid = 0;      ///< as it sees itself, and P's
  std::list<BodyThread> threads;  ///< the leading thread first
  ForeignMemory memory;
  std::optional<PageMap> pages;
  Scratch scratch;
  OwnedFd pidfd;
  OwnedFd listener;  ///< of its seccomp filter
  std::array<KernelSigaction, kSignalCount> actions{};
  std::optional<MemoryLimits> limits;  ///< as home has told of them
  CpuSet cpus{};                       ///< that it may have here
  BodyCpu cpu;
  bool counts_cpu = false;    ///< it is known what it has used elsewhere, and home takes part
  bool cpu_was_told = false;  ///< to the program, at some time while it was away

  BodyThread& leader() { return threads.front(); }
  const BodyThread& leader() const { return threads.front(); }
};

}  // namespace drover
