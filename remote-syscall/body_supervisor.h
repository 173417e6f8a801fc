// The remote side of a body that runs: takes its system calls from the seccomp listener
// (Documentation/userspace-api/seccomp_filter.rst), forwards them home, delivers the signals
// that come from there, and stops it when it is to move.
#pragma once

#include <linux/seccomp.h>

#include <chrono>
#include <deque>
#include <optional>
#include <vector>

#include "common/secure_channel.h"
#include "remote-syscall/body.h"
#include "remote-syscall/marshal.h"

namespace drover {

class BodySupervisor {
 public:
  /// Both outlive this. The body is stopped, its registers set.
  BodySupervisor(Body& body, SecureChannel& channel) : body_(&body), channel_(&channel) {}

  /// Lets the body run, or go on.
  Status run();
  /// Stops it where its state can be taken. The frames that arrive meanwhile are handled; a
  /// call under way is waited for: its answer comes, since home has been told to stop.
  Status freeze();

  /// Takes one notification from the listener, if there is one.
  Status on_notification();
  /// Takes up what has happened to the body.
  Status look();
  /// kReply, kSignal and kMaskSet.
  Status on_frame(const Frame& frame);

  bool frozen() const { return frozen_; }
  /// The body is gone; home has been told how.
  bool ended() const { return ended_; }
  /// The program is ending: home knows, and nothing is left to be moved.
  bool exiting() const { return exiting_; }
  /// Signals that came from home and were not yet delivered: they go where the body goes.
  std::vector<siginfo_t> undelivered() const;
  /// Takes over what was undelivered where the body was before; to be called before `run`.
  void adopt(const std::vector<siginfo_t>& signals) {
    arrived_.insert(arrived_.end(), signals.begin(), signals.end());
  }
  /// Tells home the program's mask and actions: where the body was before, that may have been said
  /// to a home that could not hear it any more.
  Status declare_anew();
  const OwnedFd& listener() const { return body_->listener; }

 private:
  struct Call {
    bool active = false;
    std::uint64_t notification = 0;
    std::uint64_t sequence = 0;
    CallRequest request;
    std::chrono::steady_clock::time_point sent;
  };

  Status dispatch(const seccomp_notif& notification);
  Result<bool> signal_waits_in_body();
  Status forget_vanished();
  Status forward(const seccomp_notif& notification);
  Status mediate(const seccomp_notif& notification);
  Status send_call();
  void in_call_with(std::int64_t result);
  Status restart_unseen_call();
  Status need_home(int call);
  Status leave_restart_block();
  Status on_reply(ByteView payload);
  Status interrupted(std::int64_t result);
  bool transferred_a_part(std::int64_t result) const;
  Status hold(std::int64_t result);
  Status go_on(std::int64_t result);
  Status deliver_under_wait_mask(const siginfo_t& info, std::int64_t result);
  Status mirror_mask(const seccomp_notif& notification);
  Status mirror_sigreturn();
  Status mirror_action(const seccomp_notif& notification);
  Status declare_mask(SignalMask mask);
  Status enter_handler(int signal, const KernelSigaction& action);
  Status await_mask_or_let_through(std::uint64_t id);
  Status on_mask_set();

  Status answer(std::uint64_t id, std::int64_t result);
  Status let_through(std::uint64_t id);

  Status queue_arrived();
  Status queue_signal(const siginfo_t& info);
  Status on_stop(const Stop& stop);
  Status on_signal_stop(int signal);
  Status wait_frozen();
  Status gone(const Stop& stop);

  Body* body_;
  SecureChannel* channel_;
  Call call_;
  bool frozen_ = true;
  bool ended_ = false;
  bool exiting_ = false;
  bool awaits_mask_ = false;
  bool sleeps_at_home_ = false;     // an interrupted sleep whose rest waits in P
  std::uint32_t signals_seen_ = 0;  // told by home over this channel
  // What a call gives that a signal meets before home executes it: a new one begins after it.
  std::int64_t if_signalled_ = kErestartnointr;
  SignalMask blocked_by_handlers_ = 0;           // of what is declared: not by the program itself
  std::deque<siginfo_t> arrived_;                // during the call, to be queued at its answer
  std::map<int, std::deque<siginfo_t>> queued_;  // sent to the body, not yet delivered there
};

}  // namespace drover
