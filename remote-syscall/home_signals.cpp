// What becomes at home of the signals of a process that is away: they are taken from P's thread and
// told to the body's, or do there what they do to a process that is not handled.
#include <sys/syscall.h>

#include <algorithm>

#include "common/process/limits.h"
#include "common/process/queued_signal.h"
#include "remote-syscall/home_thread.h"
#include "remote-syscall/returned_signals.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kDelivery{20};
constexpr milliseconds kMostStarved{500};
constexpr milliseconds kHandlersApart{20};
/// No more of the signals that a change of the mask unblocks are waited for.
constexpr int kMostTakenAtOnce = 1000;
constexpr std::uint64_t kSigDfl = 0;
constexpr std::uint64_t kSigIgn = 1;
constexpr SignalMask kStopSignals =
    signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);

/// Whether the process has a limit of cores above 0; not if it has just ended.
bool leaves_cores(pid_t pid) {
  const auto limit = soft_limit_of(pid, "Max core file size");
  return limit && *limit != "0";
}

}  // namespace

DefaultAction default_action(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case SIGCONT:
      return DefaultAction::kIgnore;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::kStop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGXCPU:
    case SIGXFSZ:
    case SIGSYS:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

Status HomeThread::tell_signal(const siginfo_t& info) {
  process_->effects.happened("signal " + std::to_string(info.si_signo));
  SignalMessage message;
  message.tid = tid();
  message.info = info;
  signal_told_ = true;
  handled_ |= signal_bit(info.si_signo);
  ++signals_told_;
  if (process_->channel->protocol() >= kFirstWithMaskAfter) {
    const auto mask = thread_->thread().signal_mask();
    const bool blocked = !mask || (*mask & signal_bit(info.si_signo)) != 0;
    message.although_blocked = blocked || telling_pending_ ? 1 : 0;
    if (message.although_blocked == 0) in_flight_.push_back({signals_told_, info});
  }
  return process_->channel->send(static_cast<std::uint16_t>(FrameType::kSignal),
                                 encode_record(message));
}

void HomeThread::has_seen(std::uint64_t signals) {
  while (!in_flight_.empty() && in_flight_.front().number <= signals) in_flight_.pop_front();
}

Result<std::vector<siginfo_t>> HomeThread::void_signals(const MaskAfter& message) {
  has_seen(message.signals_seen);
  if (goes_on_ && is_known(message.mask)) return std::vector<siginfo_t>();
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  const SignalMask blocked = message.mask.mask & ~message.kept;
  std::vector<siginfo_t> voids;
  for (const Told& told : in_flight_) {
    if ((blocked & signal_bit(told.info.si_signo)) != 0) voids.push_back(told.info);
  }
  std::erase_if(in_flight_,
                [&](const Told& told) { return (blocked & signal_bit(told.info.si_signo)) != 0; });
  return voids;
}

Status HomeThread::handle_signal(const TakenSignal& signal) {
  const int number = signal.info.si_signo;
  if (number == SIGCONT || default_action(number) == DefaultAction::kStop) {
    process_->last_job_signal = number;
  }
  if (is_pending_once(signal.info)) taken_ |= signal_bit(number);
  const KernelSigaction& action = process_->actions[static_cast<std::size_t>(number - 1)];
  const DefaultAction by_default = default_action(number);
  const bool is_default = action.handler == kSigDfl || number == SIGSTOP;
  const bool ignored =
      action.handler == kSigIgn || (is_default && by_default == DefaultAction::kIgnore);
  if (ignored) process_->effects.signal_ignored(number);

  // The body waits for the end of a call: the signal that came with it belongs to that end.
  const bool ends_call = call_.active && (signal.interrupted || thread_->has_result());
  if (process_->recalling && (is_default || ignored || !(ends_call || telling_pending_))) {
    if (!ignored) untold_.push_back(signal.info);
    if (signal.interrupted) DROVER_CHECK(settle_call(*signal.interrupted));
    return thread_->cancel();
  }
  if (ignored) {
    if (!signal.interrupted) {
      call_.disturbed = true;
      return {};
    }
    return signal.cancelled ? settle_call(*signal.interrupted) : thread_->go_on();
  }
  if (!is_default) {
    DROVER_CHECK(tell_signal(signal.info));
    if (!signal.interrupted) return {};
    DROVER_CHECK(thread_->cancel());
    return reply(CallEnd::kInterrupted, *signal.interrupted, *signal.interrupted);
  }
  const bool dumps = by_default == DefaultAction::kCore && leaves_cores(process_->memory->pid());
  if (by_default == DefaultAction::kStop || dumps) {
    // Of a stop the thread knew another action, which has been given up since: the kernel is to
    // decide. A core is written at home, of this thread first.
    if (dumps) process_->event.emplace().words = "signal " + std::to_string(number);
    (dumps ? untold_ : given_back_).push_back(signal.info);
    if (!signal.interrupted) return {};
    DROVER_CHECK(thread_->cancel());
    return disturbed(*signal.interrupted);
  }
  process_->files.forget_all();
  process_->ending = true;
  return thread_->begin_to_die(number);
}

Status HomeThread::take_back(const std::vector<siginfo_t>& infos) {
  frame_came();
  given_back_.insert(given_back_.end(), infos.begin(), infos.end());
  call_.disturbed = true;
  DROVER_CHECK(thread_->begin_to_stop());
  return look();
}

// Only when it is in no call, or one that is stopped: one that waits for a disk, say, is not waited
// for. A process may send any signal with any siginfo to itself, a thread to itself:
// rt_sigqueueinfo(2).
Status HomeThread::queue_given_back() {
  if (given_back_.empty()) return {};
  DROVER_CHECK(thread_->stop());
  if (thread_->state() != HollowThread::State::kStopped) return {};
  std::vector<siginfo_t> to_process, to_thread;
  for (const siginfo_t& info : std::exchange(given_back_, {})) {
    DROVER_TRY(const bool superseded, is_superseded(info));
    if (superseded) continue;
    const bool own = !is_leader() || is_for_thread(info, process_->memory->pid());
    (own ? to_thread : to_process).push_back(info);
  }
  const bool alone = process_->threads->size() == 1;
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  ReturnedSignals signals(*thread_, *process_->memory, alone);
  DROVER_CHECK(signals.send(injection, to_process, to_thread));
  return injection.end();
}

// A stop takes back a SIGCONT that waits, and a SIGCONT the stops: also one that we had taken when
// the other came.
Result<bool> HomeThread::is_superseded(const siginfo_t& info) const {
  const int number = info.si_signo;
  const int last = process_->last_job_signal;
  if (number != SIGCONT && default_action(number) != DefaultAction::kStop) return false;
  DROVER_TRY(const SignalMask pending, pending_signals(tid()));
  if (number != SIGCONT) return last == SIGCONT || (pending & signal_bit(SIGCONT)) != 0;
  return last != SIGCONT || (pending & kStopSignals) != 0 ||
         std::ranges::any_of(*process_->threads, &HollowThread::in_group_stop);
}

// A guest that has taken a body over says all of it anew: that is no reason to be disturbed.
bool HomeThread::is_known(const ActionMessage& message) const {
  return process_->actions[static_cast<std::size_t>(message.signal - 1)] == message.action;
}

bool HomeThread::is_known(const MaskMessage& message) const {
  if (message.wants_answer != 0 || thread_->state() != HollowThread::State::kStopped) return false;
  const auto mask = thread_->thread().signal_mask();
  return mask && *mask == message.mask;
}

Status HomeThread::on_action(const ActionMessage& message) {
  if (is_known(message)) return {};
  frame_came();
  process_->effects.action_changes(message.signal, message.action);
  process_->actions[static_cast<std::size_t>(message.signal - 1)] = message.action;
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  if (thread_->state() != HollowThread::State::kStopped) return {};
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  const ForeignAddress at = thread_->scratch().data();
  DROVER_CHECK(process_->memory->write_record(at, message.action));
  DROVER_CHECK(injection.call("rt_sigaction", SYS_rt_sigaction,
                              {static_cast<std::uint64_t>(message.signal), at.value(), 0, 8}));
  return injection.end();
}

Status HomeThread::on_mask(const MaskMessage& message) {
  if (goes_on_ && is_known(message)) return {};
  frame_came();
  handled_ &= message.mask;
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  if (thread_->state() != HollowThread::State::kStopped) return {};
  if (message.wants_answer == 0) return thread_->thread().set_signal_mask(message.mask);
  unblocks_ = message.mask;
  return tell_unblocked();
}

// What is being given back comes before what is pending. And if it stops the process, what else it
// unblocks comes after the stop, and then the answer.
Status HomeThread::tell_unblocked() {
  if (std::ranges::any_of(*process_->served, &HomeThread::gives_back)) return {};
  DROVER_CHECK(thread_->thread().set_signal_mask(*unblocks_));
  DROVER_CHECK(tell_pending(*unblocks_));
  if (over() || (thread_->in_group_stop() && !process_->recalling)) return {};
  unblocks_.reset();
  notice_starvation();
  return process_->channel->send(type(FrameType::kMaskSet), encode_record(MaskSet{tid()}));
}

Status HomeThread::end_unblocking() {
  if (!unblocks_ || over()) return {};
  if (thread_->state() == HollowThread::State::kParked) {
    DROVER_CHECK(thread_->stop());
    DROVER_CHECK(look());
  }
  if (over() || thread_->state() != HollowThread::State::kStopped) return {};
  return tell_unblocked();
}

// One that rests again already may have taken signals.
Status HomeThread::take_up_after_stop() {
  if (over()) return {};
  if (thread_->state() == HollowThread::State::kParked) {
    DROVER_CHECK(thread_->stop());
    DROVER_CHECK(look());
  }
  if (over() || thread_->state() != HollowThread::State::kStopped) return {};
  if (goes_on_) {
    await_call();
    return {};
  }
  frame_came();
  if (unblocks_) return tell_unblocked();
  DROVER_TRY(const SignalMask mask, thread_->thread().signal_mask());
  return tell_pending(mask);
}

// Each handler that returns is followed by the next one, without an instruction in between: the
// signals come faster than they travel. At home they may not.
void HomeThread::notice_starvation() {
  const auto now = Clock::now();
  const bool at_once = now - std::exchange(unblocked_at_, now) < kHandlersApart;
  if (taken_ == 0 || !at_once) {
    starves_since_.reset();
  } else if (!starves_since_) {
    starves_since_ = now;
  } else if (now - *starves_since_ > kMostStarved && !process_->event) {
    starves_since_.reset();
    process_->event.emplace().words = kTooManySignals;
  }
}

// What was taken in a recall before is older than what is pending.
Status HomeThread::tell_untold() {
  for (const siginfo_t& info : std::exchange(untold_, {})) {
    const KernelSigaction& action = process_->actions[static_cast<std::size_t>(info.si_signo - 1)];
    const bool handled = action.handler != kSigDfl && action.handler != kSigIgn;
    if (handled) {
      DROVER_CHECK(tell_signal(info));
    } else {
      untold_.push_back(info);
    }
  }
  return {};
}

Status HomeThread::tell_pending(SignalMask mask) {
  telling_pending_ = true;
  Status told = tell_untold();
  if (told) told = take_pending(mask);
  telling_pending_ = false;
  return told;
}

// Lets P run for as long as it takes each signal that is pending and not blocked any more. What can
// have been pending once is taken once: a timer, or another process, may send it again faster than
// we take it. It comes after the call, as it might have at home.
Status HomeThread::take_pending(SignalMask mask) {
  taken_ = 0;
  for (int i = 0; i < kMostTakenAtOnce && !process_->event && !over(); ++i) {
    if (thread_->in_group_stop()) break;
    DROVER_TRY(const SignalMask pending, pending_signals(tid()));
    if ((pending & ~mask & ~taken_) == 0) break;
    DROVER_CHECK(thread_->thread().set_signal_mask(mask | taken_));
    DROVER_CHECK(thread_->park());
    DROVER_TRY(const bool taken, thread_->await_stop(kDelivery));
    if (!taken) DROVER_CHECK(thread_->stop());  // it has vanished, as a stop does by a SIGCONT
    DROVER_CHECK(look());
  }
  if (thread_->state() != HollowThread::State::kStopped || over()) return {};
  return thread_->thread().set_signal_mask(mask);
}

}  // namespace drover
