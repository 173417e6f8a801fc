#include "remote-syscall/effects.h"

#include "remote-syscall/home_thread.h"

namespace drover {
namespace {

constexpr std::uint64_t kDefault = 0;
constexpr std::uint64_t kIgnore = 1;

bool is_ignored(int signal, const KernelSigaction& action) {
  return action.handler == kIgnore ||
         (action.handler == kDefault && default_action(signal) == DefaultAction::kIgnore);
}

/// Whether children that end are never waited for (wait(2)).
bool forgets_children(const KernelSigaction& action) {
  return action.handler == kIgnore || (action.flags & SA_NOCLDWAIT) != 0;
}

}  // namespace

void Effects::watch(const std::array<KernelSigaction, kSignalCount>& actions, SignalMask blocked) {
  watching_ = true;
  actions_ = actions;
  blocked_ = blocked;
}

Status Effects::call_begins(HollowThread& thread, const CallRequest& request, bool goes_on,
                            const std::function<bool()>& on_regular) {
  if (watching()) {
    if (!goes_on) have_called_.insert(thread.tid());
    const Effect effect = effect_of_call(request.number, request.arguments);
    const bool harmless =
        effect == Effect::kNone || (effect == Effect::kNoneOnRegular && on_regular());
    if (!harmless) happened(std::string(syscall_name(request.number)));
  }
  return first_ && before_call_ ? before_call_(thread) : Status{};
}

// One that is blocked waits, ignored or not: had it not been taken, it would wait still.
void Effects::signal_ignored(int signal) {
  if ((blocked_ & signal_bit(signal)) != 0) happened("signal " + std::to_string(signal));
}

// A stop and its end leave no trace in a program that knew of it neither then nor when it left.
void Effects::stops(int signal) {
  if (!watching()) return;
  const bool by_default = actions_[static_cast<std::size_t>(signal - 1)].handler == kDefault;
  if (!by_default || (blocked_ & signal_bit(signal)) != 0) {
    happened("signal " + std::to_string(signal));
  }
}

// The kernel drops signals that wait when they begin to be ignored, and those that come then; and
// the action for SIGCHLD decides what becomes of children that end.
void Effects::action_changes(int signal, const KernelSigaction& action) {
  if (!watching()) return;
  const KernelSigaction& before = actions_[static_cast<std::size_t>(signal - 1)];
  const bool begins_to_ignore = is_ignored(signal, action) && !is_ignored(signal, before);
  const bool of_children =
      signal == SIGCHLD && forgets_children(action) != forgets_children(before);
  if (begins_to_ignore || of_children) happened("a change of what signals do");
}

void Effects::happened(const std::string& what) {
  if (watching()) first_ = what;
}

}  // namespace drover
