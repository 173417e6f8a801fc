// Whether anything that a process has done since it left has had an effect outside of its body: as
// long as nothing has, its hollow rest can be what it was before, as if it had never been away.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "remote-syscall/body_messages.h"
#include "remote-syscall/hollow_thread.h"

namespace drover {

class Effects {
 public:
  /// Before a call of that thread's is begun though something has had an effect.
  using BeforeCall = std::function<Status(HollowThread&)>;

  /// Begins to watch a process that had these actions when it left, and whose threads blocked,
  /// together, these signals.
  void watch(const std::array<KernelSigaction, kSignalCount>& actions, SignalMask blocked);

  /// What the first effect was, in words; nothing as long as there has been none, or nobody
  /// watches.
  const std::optional<std::string>& first() const { return first_; }
  /// Whether the thread has begun a call since it left. One that goes on with what it was in does
  /// not count.
  bool has_called(pid_t tid) const { return have_called_.count(tid) > 0; }
  /// Has that called; nothing ends it.
  void before_calls(BeforeCall before) { before_call_ = std::move(before); }

  /// A call is about to be begun at home. `on_regular`: its first argument is the descriptor of a
  /// regular file.
  Status call_begins(HollowThread& thread, const CallRequest& request, bool goes_on,
                     const std::function<bool()>& on_regular);
  /// A signal was taken that the program does not see, for it ignores it.
  void signal_ignored(int signal);
  /// A signal stops the process, as seen from home.
  void stops(int signal);
  /// The program's action for a signal is about to change.
  void action_changes(int signal, const KernelSigaction& action);
  /// Something else that cannot be taken back, in words.
  void happened(const std::string& what);

 private:
  bool watching() const { return watching_ && !first_; }

  bool watching_ = false;
  std::optional<std::string> first_;
  std::array<KernelSigaction, kSignalCount> actions_{};
  SignalMask blocked_ = 0;
  std::set<pid_t> have_called_;
  BeforeCall before_call_;
};

}  // namespace drover
