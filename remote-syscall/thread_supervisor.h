// One thread of a body that runs: forwards its system calls home, delivers the signals that come
// from there, and stops it when the body is to move.
#pragma once

#include <linux/seccomp.h>

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "common/secure_channel.h"
#include "remote-syscall/body.h"
#include "remote-syscall/cpu_watch.h"
#include "remote-syscall/marshal.h"
#include "remote-syscall/wanted_thread.h"

namespace drover {

class ThreadSupervisor {
 public:
  /// All outlive this. The thread is stopped, its registers set.
  ThreadSupervisor(Body& body, BodyThread& thread, SecureChannel& channel, CpuWatch& cpu)
      : body_(&body), thread_(&thread), channel_(&channel), cpu_(&cpu) {}

  const BodyThread& thread() const { return *thread_; }

  /// Lets it run, or go on.
  Status run();
  /// It is about to be frozen: if it waits for home's leave to go on, it gets no further than that.
  Status go_no_further();
  /// Tells it to stop; to be followed by `freeze`. It may not be waiting for home.
  Status begin_to_stop();
  /// Stops it where its state can be taken. It may not be waiting for home.
  Status freeze();
  /// Stops it where it is, to go on there: unless it runs no further anyway.
  Status stand_still();
  /// An answer from home is due, which comes even if home has told us to leave.
  bool awaits_home() const { return (call_.active || awaits_mask_) && !frozen_ && !ended_; }

  /// Takes up one of its calls.
  Status dispatch(const seccomp_notif& notification);
  /// Takes up what has happened to it.
  Status look();
  Status on_reply(ByteView payload);
  Status on_mask_set();
  Status on_signal(const SignalMessage& message);

  bool frozen() const { return frozen_; }
  /// Tells home the thread's mask.
  Status declare_mask_anew();

  /// It is gone.
  bool ended() const { return ended_; }
  /// It is gone, and so is the body; home has been told how.
  bool died() const { return ended_ && !leaving_; }
  /// It is ending, alone: home knows.
  bool leaving() const { return leaving_; }
  /// The program is ending by its call: home knows, and nothing is left to be moved.
  bool exiting() const { return exiting_; }
  /// Signals that came from home and were not yet delivered: they go where the body goes.
  std::vector<siginfo_t> undelivered() const;
  /// Takes over what was undelivered where the body was before; to be called before `run`.
  void adopt(const std::vector<siginfo_t>& signals) {
    arrived_.insert(arrived_.end(), signals.begin(), signals.end());
  }

 private:
  struct Call {
    bool active = false;
    std::uint64_t notification = 0;
    std::uint64_t sequence = 0;
    CallRequest request;
    WantedThread wanted;  // if it makes one
    std::chrono::steady_clock::time_point sent;
  };

  Status end(const seccomp_notif& notification);
  Status leave_restart_block();
  Status leave_futex();
  Result<bool> signal_waits_in_body();
  Status forget_vanished();
  bool body_can_follow(int number) const;
  Status forward(const seccomp_notif& notification);
  Status mediate(const seccomp_notif& notification);
  Status send_call();
  void in_call_with(std::int64_t result);
  Status restart_unseen_call();
  Status need_home(int call);
  Status ask_for_thread(const seccomp_notif& notification);
  Status make_thread(std::int32_t home_tid);
  Status thread_not_made(std::int32_t home_tid, std::int64_t why);
  Status stop_in_call(std::int64_t result);
  Status interrupted(std::int64_t result);
  bool transferred_a_part(std::int64_t result) const;
  Status hold(std::int64_t result);
  Status go_on(std::int64_t result);
  Status deliver_under_wait_mask(const siginfo_t& info, std::int64_t result);
  Status mirror_mask(const seccomp_notif& notification);
  Status mirror_sigreturn();
  Status mirror_action(const seccomp_notif& notification);
  Status declare_mask(SignalMask mask, SignalMask kept = 0);
  Status send_mask(bool wants_answer);
  SignalMask program_blocks() const;
  Status enter_handler(int signal, const KernelSigaction& action);
  Status await_mask_or_let_through(std::uint64_t id);

  Status answer(std::uint64_t id, std::int64_t result);
  Status let_through(std::uint64_t id);

  Status queue_arrived();
  Status notice_flood();
  Status say_what_is_seen();
  bool merge_with_waiting(const siginfo_t& info);
  Status queue_signal(const siginfo_t& info);
  Status on_stop(const Stop& stop);
  Status on_signal_stop(int signal);
  Status wait_frozen();
  Status gone(const Stop& stop);

  Body* body_;
  BodyThread* thread_;
  SecureChannel* channel_;
  CpuWatch* cpu_;
  Call call_;
  bool frozen_ = true;
  bool stands_still_ = false;  // frozen, but where nobody else could take over from it
  bool ended_ = false;
  bool exiting_ = false;
  bool leaving_ = false;  // the thread alone is ending, and home knows
  bool awaits_mask_ = false;
  SignalMask blocked_before_ = 0;  // that change of the mask, by the program
  bool told_to_stop_ = false;
  bool flooded_ = false;            // home knows
  bool sleeps_at_home_ = false;     // an interrupted sleep whose rest waits in P
  std::uint32_t signals_seen_ = 0;  // told by home over this channel
  std::uint32_t said_seen_ = 0;     // of these: home knows
  // What a call gives that a signal meets before home executes it: a new one begins after it.
  std::int64_t if_signalled_ = kErestartnointr;
  std::deque<siginfo_t> arrived_;                // during the call, to be queued at its answer
  std::map<int, std::deque<siginfo_t>> queued_;  // sent to the body, not yet delivered there
};

}  // namespace drover
