// A system call instruction in another process, with a way back: behind it stands code that puts
// the thread's registers and signal mask back and goes on where the thread was stopped. So whoever
// makes the thread execute calls by it may be killed at any moment.
//
// It stands in the vDSO, behind what the vDSO's ELF file loads: every process has that room, and
// nothing uses it (the section headers, which are for debuggers, and the rest of the last page).
// Nothing is done by rt_sigreturn(2), which makes the kernel forget how to go on with a sleep.
#pragma once

#include "common/process/foreign_memory.h"
#include "common/process/traced_thread.h"

namespace drover {

class ReturningCall {
 public:
  /// Puts the code into the vDSO of a stopped thread, whose registers and mask are these. A call
  /// that it was stopped in is started again when it goes back. `memory` outlives this.
  static Result<ReturningCall> put(const ForeignMemory& memory, ForeignRange vdso,
                                   const Registers& registers, SignalMask mask);

  /// The `syscall` instruction. The flags must be the thread's own there; its stack is not used.
  ForeignAddress call() const { return at_; }
  /// Where it goes back without a call.
  ForeignAddress way_back() const;

  /// The vDSO is as it was. The thread must stand somewhere else.
  Status remove() const;

 private:
  ReturningCall(const ForeignMemory& memory, ForeignAddress at, Bytes before)
      : memory_(&memory), at_(at), before_(std::move(before)) {}

  const ForeignMemory* memory_;
  ForeignAddress at_;
  Bytes before_;
};

/// How many bytes of a vDSO are the kernel's code and data. What is behind them may be left of a
/// returning call.
Result<std::uint64_t> loaded_size(ByteView vdso);

}  // namespace drover
