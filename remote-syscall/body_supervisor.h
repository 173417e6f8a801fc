// The remote side of a body that runs: takes the system calls of its threads from the seccomp
// listener (Documentation/userspace-api/seccomp_filter.rst), hands each thread what home has for
// it, and stops them all when the body is to move.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <vector>

#include "remote-syscall/cpu_watch.h"
#include "remote-syscall/thread_supervisor.h"

namespace drover {

/// By the thread's id as it sees itself.
using SignalsOfThreads = std::map<std::int32_t, std::vector<siginfo_t>>;

class BodySupervisor {
 public:
  /// Both outlive this. The body is stopped, its registers set.
  BodySupervisor(Body& body, SecureChannel& channel);
  BodySupervisor(const BodySupervisor&) = delete;
  BodySupervisor& operator=(const BodySupervisor&) = delete;

  /// Lets the body run, or those threads go on that are stopped; not while the process is stopped.
  Status run();
  /// Stops it where its state can be taken. The frames that arrive meanwhile are handled; calls
  /// under way are waited for: their answers come, since home has been told to stop. `next_word`
  /// receives what home says.
  Status freeze(const std::function<Result<Frame>()>& next_word);

  /// Takes one notification from the listener, if there is one.
  Status on_notification();
  /// Takes up what has happened to the body.
  Status look();
  /// kReply, kSignal, kMaskSet, kStop and kContinue.
  Status on_frame(const Frame& frame);
  /// The process is stopped by a signal: until it goes on, nothing of the body runs. Threads that
  /// wait for home need not be stopped for it.
  Status stand_still();

  /// All of it.
  bool frozen() const;
  /// The body is gone; home has been told how.
  bool ended() const;
  /// The process is stopped by a signal.
  bool stopped() const { return stopped_; }
  /// The program is ending: home knows, and nothing is left to be moved.
  bool exiting() const;
  /// Signals that came from home and were not yet delivered: they go where the body goes.
  SignalsOfThreads undelivered() const;
  /// Takes over what was undelivered where the body was before; to be called before `run`.
  void adopt(const SignalsOfThreads& signals);
  /// Tells home the program's threads, masks and actions: where the body was before, that may have
  /// been said to a home that could not hear it any more.
  Status declare_anew();
  /// Tells home what the body has used by now.
  Status tell_cpu_used() { return cpu_.tell(); }
  /// A CpuAlarm rang.
  Status on_cpu_alarm() { return frozen() || ended() ? Status{} : cpu_.on_alarm(); }
  const OwnedFd& listener() const { return body_->listener; }

 private:
  Result<ThreadSupervisor*> thread(std::int32_t home_tid);
  Status on_signal(const SignalMessage& message);
  Status on_schedule(const ScheduleMessage& message);
  bool awaits_home() const;
  void forget_ended();
  Status take_up_made();
  Status go_on();

  Body* body_;
  SecureChannel* channel_;
  CpuWatch cpu_;
  std::list<ThreadSupervisor> threads_;
  bool stopped_ = false;
};

}  // namespace drover
