// Signals that were taken from P while it was away and have not been delivered: it gets them back
// when it is home, before those that have come since.
#pragma once

#include <vector>

#include "common/process/injection.h"
#include "migrate/image.h"
#include "remote-syscall/home_server.h"

namespace drover {

class ReturnedSignals {
 public:
  /// `alone`: the process has no other thread. All outlive this.
  ReturnedSignals(const HollowThread& thread, const ForeignMemory& memory, bool alone)
      : thread_(&thread), memory_(&memory), alone_(alone) {}

  /// Sends them. Only a leading thread may send what is for the process. On failure the thread has
  /// what it had before.
  Status send(Injection& injection, const std::vector<siginfo_t>& to_process,
              const std::vector<siginfo_t>& to_thread);
  /// Undoes `send`.
  Status take_back(Injection& injection);

 private:
  struct Sent {
    siginfo_t info{};
    bool to_thread = false;
  };

  bool is_leader() const { return thread_->tid() == memory_->pid(); }
  Result<std::vector<Sent>> take_out(Injection& injection) const;
  Result<std::vector<siginfo_t>> pending_here() const;
  Result<bool> take_one(Injection& injection, SignalMask kinds, siginfo_t& info) const;
  Status send_one(Injection& injection, const Sent& signal) const;

  const HollowThread* thread_;
  const ForeignMemory* memory_;
  bool alone_;
  SignalMask kinds_ = 0;
  std::vector<Sent> waiting_;  // before
  std::vector<Sent> sent_;     // by us
};

/// Adds to the undelivered signals of each thread those that its body has not been told of. If a
/// stop has begun, it has come later than they, and has taken back a SIGCONT among them.
void add_untold(ProcessState& state, const HomeServer& server);

}  // namespace drover
