// The thread that a program asks the kernel for.
#pragma once

#include <linux/sched.h>

#include <cstdint>
#include <optional>

#include "common/process/foreign_memory.h"
#include "common/process/traced_thread.h"
#include "remote-syscall/syscall_table.h"

namespace drover {

/// What a clone(2) or clone3(2) asks for that makes a thread as POSIX has it.
struct WantedThread {
  clone_args arguments{};             ///< its stack is not among them
  std::uint64_t stack_pointer = 0;    ///< 0: its maker's
  std::uint64_t clear_child_tid = 0;  ///< 0: none

  /// Nothing if the call asks for anything else, or more.
  static std::optional<WantedThread> of_call(int number, const CallArguments& arguments,
                                             const ForeignMemory& memory);

  /// What the thread begins with. `maker`: in the call; `born`: as the kernel made the thread.
  Registers registers(const Registers& maker, const Registers& born) const;
};

}  // namespace drover
