// What the signals of a body are to its supervisor: its masks and actions are mirrored in P, and
// what home sends is queued to it and delivered.
#include <sys/syscall.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>

#include "common/process/memory_map.h"
#include "common/process/queued_signal.h"
#include "remote-syscall/home_server.h"
#include "remote-syscall/thread_supervisor.h"

namespace drover {
namespace {

constexpr std::uint64_t kSigDfl = 0;
constexpr std::uint64_t kSigIgn = 1;
constexpr int kFirstRealtime = 32;
constexpr std::uint64_t kMaskInUcontext = 40 + 256;  // after its head and struct sigcontext
constexpr SignalMask kUnblockable = signal_bit(SIGKILL) | signal_bit(SIGSTOP);

/// Where in the request's data the pointer stored at `where` leads.
std::optional<std::uint32_t> target_of(const CallRequest& request, std::uint32_t where) {
  for (const Relocation& relocation : request.relocations) {
    if (relocation.where == where) return relocation.target;
  }
  return std::nullopt;
}

/// The signal mask of its own that a call waits under, if it does.
std::optional<SignalMask> wait_mask_of(const CallRequest& request) {
  std::uint32_t argument = 0;
  switch (request.number) {
    case SYS_rt_sigsuspend:
      argument = 0;
      break;
    case SYS_ppoll:
      argument = 3;
      break;
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      argument = 4;
      break;
    case SYS_pselect6:
      argument = 5;  // of a pointer to the mask
      break;
    default:
      return std::nullopt;
  }
  auto at = target_of(request, Relocation::kArgument + argument);
  if (at && request.number == SYS_pselect6) at = target_of(request, *at);
  if (!at || *at + sizeof(SignalMask) > request.data.size()) return std::nullopt;
  SignalMask mask = 0;
  std::memcpy(&mask, request.data.data() + *at, sizeof mask);
  return mask;
}

}  // namespace

Status ThreadSupervisor::on_mask_set() {
  if (!awaits_mask_) return refusal("an answer to no change of the signal mask");
  awaits_mask_ = false;
  DROVER_CHECK(queue_arrived());
  return let_through(call_.notification);
}

/// What is pending at home, not in the body.
SignalMask ThreadSupervisor::program_blocks() const {
  return thread_->declared_mask & ~thread_->blocked_by_handlers;
}

/// `kept`: what is blocked from now on by a handler.
Status ThreadSupervisor::declare_mask(SignalMask mask, SignalMask kept) {
  mask &= ~kUnblockable;
  if (mask == thread_->declared_mask) return {};
  // What becomes unblocked may be pending at home, and is to be delivered before the call that
  // unblocks it returns.
  awaits_mask_ = (thread_->declared_mask & ~mask) != 0;
  blocked_before_ = program_blocks();
  thread_->blocked_by_handlers |= kept & ~thread_->declared_mask;
  thread_->blocked_by_handlers &= mask;
  thread_->declared_mask = mask;
  if (awaits_mask_) DROVER_CHECK(cpu_->before_unblocking(thread_->home_tid));
  return send_mask(awaits_mask_);
}

Status ThreadSupervisor::declare_mask_anew() { return send_mask(false); }

Status ThreadSupervisor::send_mask(bool wants_answer) {
  const MaskMessage mask{thread_->home_tid, wants_answer ? 1U : 0U, thread_->declared_mask};
  if (channel_->protocol() < kFirstWithMaskAfter) {
    return channel_->send(type(FrameType::kMask), encode_record(mask));
  }
  said_seen_ = signals_seen_;
  const MaskAfter message{mask, thread_->blocked_by_handlers, signals_seen_};
  return channel_->send(type(FrameType::kMaskAfter), encode_record(message));
}

// What a handler blocks while it runs stays pending in P from now on.
Status ThreadSupervisor::enter_handler(int signal, const KernelSigaction& action) {
  const SignalMask own = (action.flags & SA_NODEFER) != 0 ? 0 : signal_bit(signal);
  const SignalMask kept = action.mask | own;
  return declare_mask(thread_->declared_mask | kept, kept);
}

Status ThreadSupervisor::mirror_mask(const seccomp_notif& notification) {
  const auto& a = notification.data.args;
  if (a[1] == 0 || a[3] != sizeof(SignalMask)) return {};
  const auto set = body_->memory.read_record<SignalMask>(ForeignAddress(a[1]));
  if (!set) return {};  // the kernel says EFAULT
  DROVER_TRY(const SignalMask old, blocked_signals(thread_->tid));
  switch (static_cast<int>(a[0])) {
    case SIG_BLOCK:
      return declare_mask(old | *set);
    case SIG_UNBLOCK:
      return declare_mask(old & ~*set);
    case SIG_SETMASK:
      return declare_mask(*set);
    default:
      return {};
  }
}

// The mask that rt_sigreturn restores stands in the frame at the stack pointer: struct
// ucontext, 40 bytes of head and 256 of sigcontext before it.
Status ThreadSupervisor::mirror_sigreturn() {
  DROVER_TRY(const std::string text,
             read_proc_file("/proc/" + std::to_string(thread_->tid) + "/syscall"));
  std::uint64_t stack = 0;
  if (std::sscanf(text.c_str(), "%*s %*s %*s %*s %*s %*s %*s %lx", &stack) != 1) return {};
  const auto mask = body_->memory.read_record<SignalMask>(ForeignAddress(stack) + kMaskInUcontext);
  return mask ? declare_mask(*mask) : Status{};
}

Status ThreadSupervisor::mirror_action(const seccomp_notif& notification) {
  const auto& a = notification.data.args;
  const auto signal = static_cast<std::int32_t>(a[0]);
  if (a[1] == 0 || a[3] != sizeof(SignalMask) || signal < 1 || signal > kSignalCount ||
      signal == SIGKILL || signal == SIGSTOP) {
    return {};
  }
  const auto action = body_->memory.read_record<KernelSigaction>(ForeignAddress(a[1]));
  if (!action) return {};
  body_->actions[static_cast<std::size_t>(signal - 1)] = *action;
  return channel_->send(type(FrameType::kAction),
                        encode_record(ActionMessage{signal, thread_->home_tid, *action}));
}

Result<bool> ThreadSupervisor::signal_waits_in_body() {
  DROVER_CHECK(forget_vanished());
  if (queued_.empty()) return false;
  SignalMask waiting = 0;
  for (const auto& [signal, queue] : queued_) waiting |= signal_bit(signal);
  DROVER_TRY(const SignalMask mask, blocked_signals(thread_->tid));
  return (waiting & ~mask) != 0;
}

// The kernel drops signals that wait when the program begins to ignore them, and stops at a
// SIGCONT.
Status ThreadSupervisor::forget_vanished() {
  std::erase_if(queued_, [](const auto& entry) { return entry.second.empty(); });
  if (queued_.empty()) return {};
  DROVER_TRY(const SignalMask pending, pending_signals(thread_->tid));
  std::erase_if(queued_,
                [&](const auto& entry) { return (pending & signal_bit(entry.first)) == 0; });
  return {};
}

// Signals of the program's came during the call. With one pending in the body, the kernel there
// turns a restart code into EINTR or a restart, as the handler says.
Status ThreadSupervisor::interrupted(std::int64_t result) {
  const std::optional<SignalMask> wait_mask = wait_mask_of(call_.request);
  bool delivered = false;
  DROVER_TRY(const SignalMask mask, blocked_signals(thread_->tid));
  std::optional<siginfo_t> under_wait_mask;
  while (!arrived_.empty()) {
    const siginfo_t info = arrived_.front();
    arrived_.pop_front();
    const bool blocked = (mask & signal_bit(info.si_signo)) != 0;
    const bool open_in_wait = wait_mask && (*wait_mask & signal_bit(info.si_signo)) == 0;
    if (blocked && open_in_wait && !under_wait_mask) {
      under_wait_mask = info;
      continue;
    }
    DROVER_CHECK(queue_signal(info));
    delivered = delivered || !blocked;
  }
  // Under its own mask the call would have found the signal at once.
  if (under_wait_mask) {
    const bool begun = result != kErestartnointr;
    return deliver_under_wait_mask(*under_wait_mask, begun ? result : kErestartnohand);
  }
  // Nothing that the body takes now: the call has ended for no reason that the program sees.
  if (!delivered) return go_on(result == -EINTR ? kErestartnohand : result);
  return answer(call_.notification, result);
}

// sigsuspend, ppoll and their like wait under a mask of their own, which only P had. The signal
// is let through here for just as long as the kernel needs to take it up; the mask that the
// handler's return restores is the program's.
Status ThreadSupervisor::deliver_under_wait_mask(const siginfo_t& info, std::int64_t result) {
  const TracedThread& thread = thread_->thread;
  in_call_with(result);
  DROVER_CHECK(thread.interrupt());
  DROVER_CHECK(answer(call_.notification, result));
  DROVER_CHECK(wait_frozen());
  if (ended_) return {};
  DROVER_TRY(const SignalMask mask, thread.signal_mask());
  DROVER_CHECK(queue_signal(info));
  DROVER_CHECK(thread.set_signal_mask(mask & ~signal_bit(info.si_signo)));
  DROVER_CHECK(thread.resume());
  frozen_ = false;
  DROVER_TRY(Stop delivery, thread.wait_for_stop());
  // A SIGCONT stops it twice: it is said to have come before it is delivered.
  while (delivery.by_event()) {
    DROVER_CHECK(thread.resume());
    DROVER_TRY(delivery, thread.wait_for_stop());
  }
  if (delivery.gone()) return gone(delivery);
  const std::uint64_t handler = body_->actions[static_cast<std::size_t>(info.si_signo - 1)].handler;
  DROVER_CHECK(thread.interrupt());
  DROVER_CHECK(on_stop(delivery));
  if (frozen_) return {};
  DROVER_TRY(const Stop begun, thread.wait());
  if (begun.gone()) return gone(begun);
  // In the handler's first instruction: what its return restores stands in the frame above.
  DROVER_TRY(const Registers r, thread.registers());
  if (r.rip == handler) {
    const ForeignAddress saved_mask(r.rsp + sizeof(std::uint64_t) + kMaskInUcontext);
    DROVER_CHECK(body_->memory.write_record(saved_mask, mask));
  }
  DROVER_TRY(const SignalMask now, thread.signal_mask());
  DROVER_CHECK(thread.set_signal_mask(now | mask));
  return thread.resume();
}

// Realtime signals are queued without end: a handler that takes its time, or the way to home, may
// be too slow for them. At home the sender finds the queue full, as it should.
Status ThreadSupervisor::notice_flood() {
  constexpr std::size_t kFlood = 1000;
  std::size_t waiting = arrived_.size();
  for (const auto& [signal, queue] : queued_) waiting += queue.size();
  if (waiting < kFlood || std::exchange(flooded_, true)) return {};
  return channel_->send(type(FrameType::kNeedHome),
                        encode_record(NeedHome{thread_->home_tid, NeedHome::kSignals}));
}

// Home keeps what it has told until it hears that. A call says so, and most handlers do; but not
// those that block nothing, in a program that makes no calls.
Status ThreadSupervisor::say_what_is_seen() {
  constexpr std::uint32_t kMostUnsaid = 256;
  if (signals_seen_ - said_seen_ < kMostUnsaid || call_.active || awaits_mask_ || frozen_)
    return {};
  return channel_->protocol() < kFirstWithMaskAfter ? Status{} : send_mask(false);
}

Status ThreadSupervisor::queue_arrived() {
  while (!arrived_.empty()) {
    const siginfo_t info = arrived_.front();
    arrived_.pop_front();
    DROVER_CHECK(queue_signal(info));
  }
  return {};
}

// At home it would not have been queued a second time. Home tells of it whenever P has taken one,
// which a fast timer or sender makes happen more often than the body can be interrupted.
bool ThreadSupervisor::merge_with_waiting(const siginfo_t& info) {
  if (!is_pending_once(info)) return false;
  const auto is_same = [&](const siginfo_t& other) {
    if (other.si_signo != info.si_signo) return false;
    if (info.si_signo < kFirstRealtime) return true;
    return other.si_code == SI_TIMER && other.si_timerid == info.si_timerid;
  };
  auto same = std::ranges::find_if(arrived_, is_same);
  if (same == arrived_.end()) {
    auto& queue = queued_[info.si_signo];
    same = std::ranges::find_if(queue, is_same);
    if (same == queue.end()) return false;
  }
  if (info.si_code == SI_TIMER && same->si_code == SI_TIMER) {
    const std::int64_t overruns = std::int64_t{same->si_overrun} + info.si_overrun + 1;
    same->si_overrun = static_cast<int>(std::min<std::int64_t>(overruns, INT_MAX));
  }
  return true;
}

Status ThreadSupervisor::queue_signal(const siginfo_t& info) {
  const int signal = info.si_signo;
  if ((program_blocks() & signal_bit(signal)) != 0 && !frozen_) {
    // Blocked in the meantime: it belongs to the pending ones, and those are home's. What a running
    // handler blocks waits for its end here, in the order in which it came.
    SignalMessage message;
    message.tid = thread_->home_tid;
    message.info = info;
    return channel_->send(type(FrameType::kSignal), encode_record(message));
  }
  auto& queue = queued_[signal];
  if (signal < kFirstRealtime && !queue.empty()) return {};  // pending already
  queue.push_back(info);
  if (syscall(SYS_tgkill, body_->pid, thread_->tid, signal) != 0 && errno != ESRCH) {
    return errno_error("send signal " + std::to_string(signal) + " to the body");
  }
  return {};
}

std::vector<siginfo_t> ThreadSupervisor::undelivered() const {
  std::vector<siginfo_t> all;
  for (const auto& [signal, queue] : queued_) all.insert(all.end(), queue.begin(), queue.end());
  all.insert(all.end(), arrived_.begin(), arrived_.end());
  return all;
}

Status ThreadSupervisor::on_signal_stop(int signal) {
  const TracedThread& thread = thread_->thread;
  DROVER_TRY(siginfo_t info, thread.signal_info());
  KernelSigaction& action = body_->actions[static_cast<std::size_t>(signal - 1)];
  auto& queue = queued_[signal];
  const bool from_home = info.si_code == SI_TKILL && !queue.empty();
  if (from_home) {
    info = queue.front();
    queue.pop_front();
    DROVER_CHECK(thread.set_signal_info(info));
  }
  if (action.handler == kSigIgn) return thread.resume();
  if (action.handler == kSigDfl) {
    if (default_action(signal) == DefaultAction::kIgnore) return thread.resume();
    if (from_home) {
      // The program has given up its handler meanwhile: home decides anew.
      SignalMessage message;
      message.tid = thread_->home_tid;
      message.info = info;
      DROVER_CHECK(channel_->send(type(FrameType::kSignal), encode_record(message)));
      return thread.resume();
    }
    // A fault of the program's own, and nobody to handle it: it dies of it at home.
    frozen_ = true;
    NeedHome message;
    message.tid = thread_->home_tid;
    return channel_->send(type(FrameType::kNeedHome), encode_record(message));
  }
  DROVER_CHECK(restart_unseen_call());
  in_call_with(0);  // what is interrupted next is another call, of the handler's
  DROVER_CHECK(enter_handler(signal, action));
  if ((action.flags & SA_RESETHAND) != 0) {
    action = {};
    DROVER_CHECK(channel_->send(type(FrameType::kAction),
                                encode_record(ActionMessage{signal, thread_->home_tid, action})));
  }
  return thread.resume(signal);
}

}  // namespace drover
