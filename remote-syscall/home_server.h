// The home side of a process that is away: all threads of P, and what its body's threads say.
#pragma once

#include <deque>
#include <list>
#include <vector>

#include "remote-syscall/home_thread.h"

namespace drover {

class HomeServer {
 public:
  /// The threads are hollow, the leading one first; the process's action for every signal is as in
  /// `actions`. All outlive this. `stopped`: the body has been told that the process is.
  HomeServer(std::list<HollowThread>& threads, const ForeignMemory& memory, SecureChannel& channel,
             const std::array<KernelSigaction, kSignalCount>& actions, CallCounters& counters,
             bool stopped = false);

  /// Takes one frame of the running body's.
  Status on_frame(const Frame& frame);
  /// Takes up what has happened to P. To be called whenever a child of ours may have changed.
  Status look();
  /// Lets threads of P that have no call under way wait for signals.
  Status rest();
  /// For how long it is well that threads are stopped and would not notice a signal: then it is to
  /// `rest`. Nothing if none is.
  std::optional<std::chrono::milliseconds> deaf_patience() const;
  /// Takes P's timers by CPU time over, which count both sides from now on: before anything else.
  Status adopt_timers();
  /// Gives them back; `last` is what the body has used in all, if that is known. If P does not come
  /// home after all, `end_recall` takes them over again.
  Status give_back_timers(const std::optional<CpuUsedMessage>& last);
  /// The same, as if nothing had ever been used away.
  Status give_back_timers_as_they_were();

  /// Tells the guest what others have changed of P. To be called now and then.
  Status tell_of_changes();
  /// The thread of the body is in a call that a move has disturbed, and goes on with it.
  void await_call(pid_t tid);

  /// Stops serving for a move: calls under way are cancelled or their results sent; calls that
  /// still come are sent back unexecuted. P is stopped afterwards.
  Status begin_recall();
  /// Serves again: the body goes on, where it was or on another node.
  Status end_recall();
  /// The body is lost: stops all threads of P, without a word to anybody. On failure it may be
  /// tried again.
  Status break_off();
  /// What the process has done that others can tell.
  Effects& effects() { return process_.effects; }
  /// All threads of P are stopped: whether a signal stops the process by now (`stop_begun`). For
  /// the kernel tells of that only when they run.
  Status notice_stop();
  /// The same after `break_off`.
  Status notice_stop_without_body();
  /// Threads of P that are in no call.
  std::vector<HollowThread*> resting();

  /// Serves another body from now on, whose threads are stopped, and which has been told of a
  /// stop or not. The old one is no longer answered.
  Status attach(SecureChannel& channel, bool stopped = false);

  /// A signal stops the process, or at least some of its threads so far.
  bool stop_begun() const;
  /// The process is stopped, and its body stands still.
  bool stopped() const { return told_of_stop_; }

  /// How P has ended, if that has been told already: it is told once.
  std::optional<int> wait_status() const;
  std::optional<HomeEvent> take_event() { return std::exchange(process_.event, {}); }
  /// Signals taken from a thread of P that the body has not been told of.
  std::vector<siginfo_t> untold(pid_t tid) const;

 private:
  Result<HomeThread*> thread(pid_t tid);
  HomeThread& leader() { return threads_.front(); }
  Status serve(const Frame& frame);
  Status on_exit(const ExitMessage& message);
  Status end_thread(HomeThread& thread);
  void take_up_made();
  Status on_threads(const ThreadsMessage& message);
  Status on_fatal(const FatalMessage& message);
  Status take_back(pid_t tid, std::vector<siginfo_t> infos);
  Status tend_timers();
  Status notice_end();
  Status follow_stop();
  Status let_rest();
  Status tell_of_stop();
  Status tell_of_end_of_stop();
  bool waits_for_end_of_stop(const Frame& frame) const;
  Status keep(const Frame& frame);
  Status serve_kept();

  HomeProcess process_;
  bool timers_are_ours_ = false;
  std::list<HomeThread> threads_;  // of each of the process that has not ended
  bool told_of_stop_ = false;
  std::deque<Frame> kept_;  // of a body that had not heard of the stop yet
  std::size_t kept_bytes_ = 0;
};

}  // namespace drover
