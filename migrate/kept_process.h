// What a process was when it left its home, and all the memory that it had: kept while it is away
// (mosrun --keep-memory), so that it can go on from there if its body is lost. That is so until
// something that it has done since has had an effect (remote-syscall/effects.h).
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "migrate/hollow_process.h"
#include "migrate/outbound.h"
#include "remote-syscall/home_server.h"

namespace drover {

class KeptProcess {
 public:
  /// `process` has a `kept_state`, and nothing has been served for it yet. `meanwhile` is called
  /// during what may take long. All outlive this.
  KeptProcess(AwayProcess& process, HomeServer& server, std::function<void()> meanwhile);

  /// It can go on from where it left.
  bool whole() const { return !given_up_ && !server_->effects().first(); }
  /// Why it cannot, in words; empty if it can.
  std::string why_not() const;
  /// It cannot any more: its memory is about to be changed.
  void give_up(const std::string& why);

  /// Once it cannot: drops a piece of the memory, if a thread of P rests. Whether to do so again
  /// at once.
  Result<bool> drop_some();

  /// A signal that waits for P, whose threads are stopped, and would end the program where it left;
  /// 0 if there is none.
  int fatal_signal() const;

  /// Makes P, whose threads are stopped, what it was, and lets it go, untraced. It gets the signals
  /// that were taken from it but not told to the body. Nothing of the body runs.
  Status put_back();

 private:
  Status before_call(HollowThread& thread);
  Status drop_next(HollowThread& thread);

  AwayProcess* process_;
  HomeServer* server_;
  std::function<void()> meanwhile_;
  std::optional<std::string> given_up_;
  std::optional<MemoryDrop> drop_;
  bool dropped_ = false;
};

}  // namespace drover
