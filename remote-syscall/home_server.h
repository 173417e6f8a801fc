// The home side of a process that is away: executes what its body forwards, in P, and decides
// what becomes of the signals that P gets.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <string>

#include "common/secure_channel.h"
#include "remote-syscall/body_messages.h"
#include "remote-syscall/hollow_thread.h"
#include "remote-syscall/home_files.h"

namespace drover {

/// What a call cost the process: for mosps, and for tests that ask what was done away.
struct CallCounters {
  struct PerCall {
    std::uint64_t served = 0;  ///< executions at home: of one that was disturbed, several
    std::uint64_t forced_home = 0;
  };
  std::map<int, PerCall> calls;
};

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
  /// A signal that is to be sent to the process once it is home.
  std::optional<siginfo_t> raise;
};

class HomeServer {
 public:
  /// The thread is hollow; its action for every signal is as in `actions`. All outlive this.
  HomeServer(HollowThread& thread, const ForeignMemory& memory, SecureChannel& channel,
             const std::array<KernelSigaction, kSignalCount>& actions, CallCounters& counters);

  /// Takes one frame of the running body's.
  Status on_frame(const Frame& frame);
  /// Takes up what has happened to P. To be called whenever a child of ours may have changed.
  Status look();
  /// Lets P wait for signals if no call is under way, or about to go on.
  Status rest();
  /// Whether P is stopped and would not notice a signal.
  bool resting_deaf() const { return thread_->state() == HollowThread::State::kStopped; }
  /// For how long that is well: then it is to `rest`.
  std::chrono::milliseconds deaf_patience() const;
  /// The body is in a call that a move has disturbed, and goes on with it.
  void await_call() {
    goes_on_ = true;
    goes_on_since_ = std::chrono::steady_clock::now();
  }

  /// Stops serving for a move: a call under way is cancelled or its result sent; calls that
  /// still come are sent back unexecuted. P is stopped afterwards.
  Status begin_recall();
  /// Serves again: the body goes on, where it was or on another node.
  Status end_recall();
  /// Serves another body from now on. The old one is no longer answered.
  void attach(SecureChannel& channel);

  std::optional<HomeEvent> take_event();
  /// Signals taken from P that the body has not been told of.
  const std::vector<siginfo_t>& untold() const { return untold_; }
  std::vector<siginfo_t> take_untold() { return std::exchange(untold_, {}); }
  const std::array<KernelSigaction, kSignalCount>& actions() const { return actions_; }

 private:
  struct PendingCall {
    bool active = false;
    std::int32_t tid = 0;
    std::uint64_t sequence = 0;
    CallRequest request;
    bool disturbed = false;  // by something that the program is not to see
  };

  Status on_call(WireReader& reader);
  Status take_back(const siginfo_t& info);
  bool is_known(const ActionMessage& message) const;
  bool is_known(const MaskMessage& message) const;
  Status on_action(const ActionMessage& message);
  Status on_mask(const MaskMessage& message);
  Status tell_pending(SignalMask mask);
  Status take_pending(SignalMask mask);
  Status on_exit(const ExitMessage& message);
  Status settle_call(std::int64_t result);
  bool is_disturbed(std::int64_t result) const;
  Status disturbed(std::int64_t came_to);
  Status reply(CallEnd end, std::int64_t result, std::optional<std::int64_t> came_to = {});
  Status send_reply(CallEnd end, CallReply& reply);
  Result<bool> executed_by_us();
  Status handle_signal(const TakenSignal& signal);
  Status tell_signal(const siginfo_t& info);
  Status ended();
  bool opened_own_memory(std::int64_t fd) const;

  HollowThread* thread_;
  const ForeignMemory* memory_;
  HomeFiles files_;
  SecureChannel* channel_;
  std::array<KernelSigaction, kSignalCount> actions_;
  CallCounters* counters_;
  PendingCall call_;
  bool recalling_ = false;
  bool telling_pending_ = false;    // those that a change of the mask unblocks
  std::uint32_t signals_told_ = 0;  // over this channel
  bool signal_told_ = false;        // during the call under way
  bool goes_on_ = false;            // the body is about to go on with a disturbed call
  std::chrono::steady_clock::time_point goes_on_since_;
  std::optional<HomeEvent> event_;
  std::vector<siginfo_t> untold_;
  Bytes out_;  // reused: contents of a reply
  std::vector<Piece> pieces_;
};

/// Whether a call that gave EINTR, though no signal came for the program, is to be made again:
/// some give it for any wake-up (signal(7)). A descriptor is closed whatever close(2) returns.
bool is_made_again_after_eintr(int number);

/// What the kernel does with a signal whose action is SIG_DFL (signal(7)).
enum class DefaultAction { kTerminate, kCore, kStop, kIgnore };
DefaultAction default_action(int signal);

}  // namespace drover
