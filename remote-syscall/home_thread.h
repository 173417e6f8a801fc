// One thread of P as the home side of a process that is away serves it: executes what its body's
// thread forwards, and decides what becomes of the signals that it gets.
#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <string>

#include "common/secure_channel.h"
#include "remote-syscall/body_messages.h"
#include "remote-syscall/effects.h"
#include "remote-syscall/hollow_thread.h"
#include "remote-syscall/home_cpu_timers.h"
#include "remote-syscall/home_files.h"
#include "remote-syscall/home_limits.h"
#include "remote-syscall/home_schedules.h"

namespace drover {

/// What the calls cost the process: for mosps, and for tests that ask what was done away.
struct CallCounters {
  struct PerCall {
    std::uint64_t served = 0;  ///< executions at home: of one that was disturbed, several
    std::uint64_t forced_home = 0;
  };
  std::map<int, PerCall> calls;
};

/// Why a process comes home whose signals starve it.
inline constexpr const char* kTooManySignals = "signals that come faster than they travel";

/// Something that the server cannot deal with by itself.
struct HomeEvent {
  enum class Kind {
    kNeedHome,  ///< the process must come home: `words` say why
    kEnded,     ///< P has ended: `wait_status`
  };
  Kind kind = Kind::kNeedHome;
  std::string words;
  int call = -1;
  int wait_status = 0;
};

class HomeThread;

/// What the threads have in common.
struct HomeProcess {
  std::list<HollowThread>* threads;  ///< the leading one first
  const std::list<HomeThread>* served;
  const ForeignMemory* memory;
  SecureChannel* channel;
  HomeFiles files;
  HomeLimits limits;
  HomeCpuTimers timers;
  std::array<KernelSigaction, kSignalCount> actions;
  CallCounters* counters;
  bool recalling = false;
  bool ending = false;             ///< it is about to be waited for
  int last_job_signal = 0;         ///< a stop or SIGCONT, of those that were taken
  int changing_descriptors = 0;    ///< so many threads are in calls that do
  int holding_positions = 0;       ///< of files: the same
  HollowThread* made = nullptr;    ///< a new one, not yet taken up
  std::optional<HomeEvent> event;  ///< not yet taken
  Effects effects{};
};

class HomeThread {
 public:
  /// Both outlive this.
  HomeThread(HollowThread& thread, HomeProcess& process) : thread_(&thread), process_(&process) {}

  HollowThread& hollow() { return *thread_; }
  pid_t tid() const { return thread_->tid(); }

  /// A frame of the thread has come: kCall with its tid read, or what follows.
  Status on_call(WireReader& reader);
  Status on_mask(const MaskMessage& message);
  /// Of the signals that were told, those that are void by this change of the mask, oldest first.
  /// Nothing more is told before that change has taken effect.
  Result<std::vector<siginfo_t>> void_signals(const MaskAfter& message);
  Status on_action(const ActionMessage& message);
  /// Signals that the body could not take any more: they are pending again, and P is asked anew.
  /// Those for the process may be given only to the leading thread.
  Status take_back(const std::vector<siginfo_t>& infos);
  /// And they are not pending yet.
  bool gives_back() const { return !given_back_.empty(); }
  /// The program ends, by this thread's call.
  Status exit_process(int status);
  /// This thread does, alone.
  Status exit();

  /// Takes up what has happened to it.
  Status look();
  /// Lets it wait for signals if it is stopped and has been for long enough: until then another
  /// call may follow. In a stop of the process at once: it is to take part.
  Status rest(bool in_group_stop);
  /// The process's stop is over: what waited for that is told, before the body runs again.
  Status take_up_after_stop();
  /// The body's thread waits for the answer to a change of its mask: it gets that now, if nothing
  /// keeps it from that.
  Status end_unblocking();
  /// How long it may stay stopped; nothing if it is not.
  std::optional<std::chrono::nanoseconds> deaf_patience() const;
  /// The body's thread is in a call that was disturbed, and goes on with it.
  void await_call();

  /// It was told to stop, and does so only when the move has been given up.
  void is_to_stop_late() { call_.disturbed = true; }

  /// Whether it is in no call of the program's.
  bool idle() const;
  /// Whether it has been told of this signal, and blocks it since: so its handler runs.
  bool handles(int signal) const { return (handled_ & signal_bit(signal)) != 0; }
  /// Stops it, when idle. False: it is not at our disposal after all.
  Result<bool> stop_for_us();
  /// Has it make a call of ours, because a timer expires, when idle (HollowThread::call). Nothing:
  /// it was not made.
  Result<std::optional<std::int64_t>> make_own_call(CallRequest& request);
  /// Tells it to stop in the call that it is in, which goes on afterwards; does not wait for it.
  Status disturb();

  /// The channel leads to another body now.
  void begin_anew();
  /// The body is lost: stops, and forgets the call that it is in. Signals that this takes from it
  /// are `untold`.
  Status break_off();
  /// Signals taken from P that the body has not been told of.
  std::vector<siginfo_t>& untold() { return untold_; }
  const std::vector<siginfo_t>& untold() const { return untold_; }
  Status tell_signal(const siginfo_t& info);
  bool goes_on() const { return goes_on_; }

 private:
  struct PendingCall {
    bool active = false;
    std::uint64_t sequence = 0;
    CallRequest request;
    bool disturbed = false;  // by something that the program is not to see
    bool changes_descriptors = false;
    bool holds_position = false;
    std::optional<TimerChange> timer_change;
  };

  void frame_came();
  void has_seen(std::uint64_t signals);
  bool over() const { return process_->ending || thread_->state() == HollowThread::State::kGone; }
  Status tell_unblocked();
  Result<bool> is_superseded(const siginfo_t& info) const;
  bool is_leader() const { return thread_->tid() == process_->memory->pid(); }
  bool is_known(const ActionMessage& message) const;
  bool is_known(const MaskMessage& message) const;
  void notice_starvation();
  Status tell_pending(SignalMask mask);
  Status tell_untold();
  Status take_pending(SignalMask mask);
  Status queue_given_back();
  Status settle_call(std::int64_t result);
  bool is_disturbed(std::int64_t result) const;
  Status disturbed(std::int64_t came_to);
  Status reply(CallEnd end, std::int64_t result, std::optional<std::int64_t> came_to = {});
  Status send_reply(CallEnd end, CallReply& reply);
  void call_is_over();
  Status begins(bool goes_on);
  Status start(bool goes_on);
  Status make_thread();
  std::optional<Scratch> free_scratch() const;
  Result<bool> executed_by_us();
  Status handle_signal(const TakenSignal& signal);
  bool opened_own_memory(std::int64_t fd) const;

  HollowThread* thread_;
  HomeProcess* process_;
  PendingCall call_;
  std::optional<SignalMask> unblocks_;  // by a change of the mask that is to be answered
  bool telling_pending_ = false;        // those that it unblocks
  SignalMask taken_ = 0;                // of these: those that are not pending a second time
  std::uint32_t signals_told_ = 0;      // over this channel
  std::optional<std::chrono::steady_clock::time_point> starves_since_;
  std::chrono::steady_clock::time_point unblocked_at_;
  bool signal_told_ = false;  // during the call under way
  bool goes_on_ = false;      // the body is about to go on with a disturbed call
  std::chrono::steady_clock::time_point rest_at_;
  struct Told {
    std::uint64_t number;  // over this channel, from 1 on
    siginfo_t info;
  };
  std::deque<Told> in_flight_;  // as far as we know
  SignalMask handled_ = 0;
  std::vector<siginfo_t> untold_;
  std::vector<siginfo_t> given_back_;  // and not yet pending again
  Bytes out_;                          // reused: contents of a reply
  std::vector<Piece> pieces_;
};

/// Whether a call that gave EINTR, though no signal came for the program, is to be made again:
/// some give it for any wake-up (signal(7)). A descriptor is closed whatever close(2) returns.
bool is_made_again_after_eintr(int number);

/// What the kernel does with a signal whose action is SIG_DFL (signal(7)).
enum class DefaultAction { kTerminate, kCore, kStop, kIgnore };
DefaultAction default_action(int signal);

}  // namespace drover
