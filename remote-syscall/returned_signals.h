// Signals that were taken from P while it was away and have not been delivered: it gets them back,
// before those that have come since.
#pragma once

#include <vector>

#include "common/process/injection.h"
#include "remote-syscall/hollow_thread.h"

namespace drover {

class ReturnedSignals {
 public:
  /// `alone`: the process has no other thread. All outlive this.
  ReturnedSignals(const HollowThread& thread, const ForeignMemory& memory, bool alone)
      : thread_(&thread), memory_(&memory), alone_(alone) {}

  /// Sends them. Only a leading thread may send what is for the process. On failure the thread has
  /// what it had before. What stands in the thread's scratch is the same afterwards.
  Status send(Injection& injection, const std::vector<siginfo_t>& to_process,
              const std::vector<siginfo_t>& to_thread);
  /// Undoes `send`.
  Status take_back(Injection& injection);

 private:
  struct Sent {
    siginfo_t info{};
    bool to_thread = false;
  };
  /// As many of them as are said have been queued by us, the first ones.
  struct Row {
    std::vector<Sent> signals;
    std::size_t queued = 0;
  };
  /// Those whose order among each other matters: of one realtime signal, or all the others.
  struct Kind {
    SignalMask signals = 0;
    bool realtime = false;
    Row returned;
    Row others;  // that wait for the thread: what came before, and meanwhile
  };

  void add(const siginfo_t& info, bool to_thread);
  Kind& kind_of(int signal);
  Status send_first(Injection& injection, Kind& kind) const;
  Status drop_taken_back(Injection& injection, Row& row) const;
  Status take_out(Injection& injection, Kind& kind) const;
  Result<std::vector<Sent>> take(Injection& injection, const Kind& kind) const;
  static void keep_found(const Kind& kind, Row& row, std::vector<Sent>& taken);
  Result<std::vector<Sent>> pending(const Kind& kind) const;
  Status queue(Injection& injection, Row& row) const;
  Result<bool> come_first(const Kind& kind) const;
  bool is_leader() const { return thread_->tid() == memory_->pid(); }

  const HollowThread* thread_;
  const ForeignMemory* memory_;
  bool alone_;
  std::vector<Kind> kinds_;
};

}  // namespace drover
