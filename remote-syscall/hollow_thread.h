// A thread of P, the hollow process: what stays at home of a thread that is away. It rests in
// a pause loop, where signals reach it, and executes the calls that its body forwards.
//
// By a signal whose action is to stop the process it is stopped as any other: it goes with that
// signal, and when the kernel has it take part in the stop it stays there, resting or in its call,
// until the kernel says that the stop is over (ptrace(2), "Group-stop" and PTRACE_LISTEN). Whether
// there is a stop the kernel alone decides: it drops one if a SIGCONT comes, or in an orphaned
// process group.
#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <optional>

#include "common/process/foreign_memory.h"
#include "common/process/injection.h"
#include "common/process/scratch.h"
#include "common/process/traced_thread.h"
#include "remote-syscall/marshal.h"

namespace drover {

/// Whether a process has ended, or is about to: its memory is gone.
bool has_ended(pid_t pid);

/// A signal that the kernel was about to deliver to P. It has been taken from P: whoever is
/// told of it must see to it that it takes effect.
struct TakenSignal {
  siginfo_t info{};
  /// The forwarded call that it came upon, if that has not taken effect: its -ERESTART* code.
  std::optional<std::int64_t> interrupted;
  /// That call has been given up already.
  bool cancelled = false;
};

class HollowThread {
 public:
  enum class State { kStopped, kParked, kCalling, kGone };

  /// `thread` is stopped, and is to be held until it ends or comes home. `memory` outlives this.
  /// `in_group_stop`: as it stopped, it said that the process is.
  HollowThread(TracedThread thread, const ForeignMemory& memory, Scratch scratch,
               const Registers& registers, bool in_group_stop = false);

  State state() const { return state_; }
  pid_t tid() const { return thread_.tid(); }
  const TracedThread& thread() const { return thread_; }
  const Scratch& scratch() const { return scratch_; }

  /// What it has last said of the process: that a signal stops it, all of it or so far this thread.
  bool in_group_stop() const { return in_group_stop_ && state_ != State::kGone; }
  /// It has taken part in that stop, and hears of the end of it by itself.
  bool has_joined_stop() const { return listens_; }
  /// Whether the call under way was disturbed by what is nothing to the program, since this was
  /// last asked.
  bool take_disturbance() { return std::exchange(disturbed_, false); }

  /// The signal that it was let go with to be stopped by, since this was last asked; 0 if there was
  /// none.
  int take_stop() { return std::exchange(stop_signal_, 0); }

  /// Lets it wait for signals; in a stop of the process, for the end of that. No call may be under
  /// way.
  Status park();
  /// Stops it, so that it can be injected into. A call under way is cancelled if it has not
  /// taken effect; if it has, its result waits in `take_result`. A signal that the call's end
  /// would have delivered is taken with it, unless the process is in a stop: then it waits for the
  /// end of that. An error if it does not stop (wait_for_stop): it goes on as it was.
  Status stop();
  /// The same of one that is in a call, but does not wait for it, which may take as long as a disk
  /// does: `look` finds it stopped.
  Status begin_to_stop();

  /// Starts a forwarded call; `take_result` tells of its end. In a stop of the process it begins
  /// after that.
  Status start(CallRequest& request);
  /// Starts a call that ends the thread or the process, stop or not.
  Status start_to_end(CallRequest& request);
  /// The same for one that goes on after it was disturbed: signals that wait find the thread in
  /// it, and end it only if it does not end by itself.
  Status start_again(CallRequest& request);
  /// Makes a call of ours, one that does not wait in the kernel, and waits for its end. It is made
  /// as the program would make it: with its signal mask. Nothing: a signal, or a stop of the
  /// process, came before it. Only when stopped, in no such stop, with no result left to take.
  Result<std::optional<std::int64_t>> call(CallRequest& request);
  /// Takes up what has happened to the thread since; never blocks. One that rested in a stop of the
  /// process which is over is found stopped.
  Status look();
  /// The same, but waits for something to happen for that long at most: whether it is stopped then.
  /// A signal that P was to take may have vanished meanwhile (a stop takes back a SIGCONT that
  /// waits).
  Result<bool> await_stop(std::chrono::milliseconds patience);
  /// The raw result of the call that ended, once. Restart codes mean: cancelled by `stop`, or
  /// by `cancel`.
  std::optional<std::int64_t> take_result();
  bool has_result() const { return result_.has_value(); }
  /// A signal that stopped the thread. It stays stopped: `go_on` or `cancel` or `die`.
  std::optional<TakenSignal> take_signal();

  /// Forgets the signal: a call under way is restarted by the kernel as if nothing had come.
  Status go_on();
  /// Gives up the call that the signal interrupted.
  Status cancel();
  /// Makes the process one thread more, to be held as this one is, for whom `scratch` is; it blocks
  /// the signals that this one blocks. Only when stopped. What clone(2) returned: its id, or a
  /// negative errno.
  Result<std::int64_t> make_another(const Scratch& scratch, std::uint64_t flags,
                                    std::list<HollowThread>& threads) const;
  /// Lets a signal kill the process: the one that the thread is stopped at, or any.
  Status begin_to_die(int signal);
  /// Waits for the thread's end. An error if it does not come in time: it may still. The leading
  /// thread's is told only when all others have been waited for.
  Status await_end();

  /// How it ended, once it is gone.
  int wait_status() const { return wait_status_; }

 private:
  bool is_held() const { return state_ == State::kStopped || state_ == State::kGone; }
  Status set_up(CallRequest& request);
  Status run_as(State state);
  /// Whether the thread was to stop, for us.
  enum class Asked { kNo, kYes };
  Status handle(const Stop& stop, Asked asked = Asked::kNo);
  Status go_on_from_event(bool was_in_group_stop);
  Status take_up(const Stop& stop);
  Result<bool> signal_waits() const;
  Result<bool> interrupt();
  Result<bool> take_waiting_signal();
  Status to_pause_loop();

  TracedThread thread_;
  const ForeignMemory* memory_;
  Scratch scratch_;
  Registers base_;
  State state_ = State::kStopped;
  std::optional<std::int64_t> result_;
  std::deque<TakenSignal> signals_;
  bool stopping_ = false;  // by begin_to_stop
  bool in_group_stop_ = false;
  bool listens_ = false;  // in that stop, resting or in its call
  bool disturbed_ = false;
  int stop_signal_ = 0;
  bool at_signal_ = false;  // stopped in the delivery of the last of signals_
  int wait_status_ = 0;
};

}  // namespace drover
