// One thread of a process that is about to leave its home: held, and its call brought to a point
// from which it can go on elsewhere.
#pragma once

#include "common/process/foreign_memory.h"
#include "common/process/traced_thread.h"

namespace drover {

class LeavingThread {
 public:
  /// `memory` outlives this.
  LeavingThread(pid_t pid, pid_t tid, const ForeignMemory& memory)
      : pid_(pid), tid_(tid), memory_(&memory) {}

  pid_t tid() const { return tid_; }
  const TracedThread& thread() const { return thread_; }

  /// Begins to trace it, and asks it to stop. False: it has ended.
  Result<bool> seize();
  /// Waits until it is stopped where its state can be taken. Signals that were on their way are
  /// taken before. False: it has ended.
  Result<bool> freeze() { return freeze(std::nullopt); }
  /// Whether it said then that the process is stopped by a signal.
  bool in_group_stop() const { return in_group_stop_; }
  /// Whether it has not been killed since it was frozen.
  Result<bool> is_there();
  /// Whether it is stopped, by force if need be. One that does not stop is let go by our own end.
  Result<bool> hold();
  /// Lets it go on, untraced, as if nothing had been. False: the stop that it was asked for is
  /// still to come; one that does not stop is let go by our own end.
  Result<bool> let_go();

 private:
  Result<bool> freeze(std::optional<Stop> met);
  Result<std::optional<Stop>> await_signal();
  Result<bool> settle_interrupted_call();
  Status continue_write(const Registers& registers);
  Result<bool> continue_sleep(const Registers& registers);
  Result<Registers> rest_of_wait(const Registers& registers);

  pid_t pid_;
  pid_t tid_;
  const ForeignMemory* memory_;
  TracedThread thread_;
  bool seized_ = false;
  bool frozen_ = false;
  bool in_group_stop_ = false;
  bool stops_ = true;
};

}  // namespace drover
