#include "remote-syscall/thread_supervisor.h"

#include <linux/audit.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "common/log.h"
#include "common/process/short_transfer.h"
#include "remote-syscall/cpu_answers.h"
#include "remote-syscall/disturbed_call.h"
#include "remote-syscall/home_server.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;

class BodyReader final : public MemoryReader {
 public:
  explicit BodyReader(const ForeignMemory& memory) : memory_(memory) {}
  Result<std::size_t> read(ForeignAddress from, std::span<std::byte> into) override {
    return memory_.read_as_process(from, into);
  }

 private:
  const ForeignMemory& memory_;
};

class BodyWriter final : public MemoryWriter {
 public:
  explicit BodyWriter(const ForeignMemory& memory) : memory_(memory) {}
  Status write(ForeignAddress to, ByteView data) override {
    if (memory_.write_as_process(to, data)) return {};
    return Error{EFAULT, "write into the caller's memory"};
  }

 private:
  const ForeignMemory& memory_;
};

}  // namespace

Status ThreadSupervisor::run() {
  DROVER_TRY(const Registers r, thread_->thread.registers());
  const bool in_call = is_in_forwarded_call(r, body_->home_pid);
  in_call_with(in_call ? static_cast<std::int64_t>(r.rax) : 0);
  // Before it runs: what they interrupt is the call that it was stopped in.
  DROVER_CHECK(queue_arrived());
  frozen_ = stands_still_ = flooded_ = false;
  return thread_->thread.resume();
}

Status ThreadSupervisor::dispatch(const seccomp_notif& notification) {
  const int number = notification.data.nr;
  constexpr int kX32Bit = 0x40000000;
  call_.notification = notification.id;
  // A signal that was sent before the call is taken before it: the call begins after that.
  DROVER_TRY(const bool signal_first, signal_waits_in_body());
  if (signal_first) return answer(notification.id, if_signalled_);
  if (notification.data.arch != AUDIT_ARCH_X86_64 || (number & kX32Bit) != 0) {
    return need_home(number);
  }
  CallArguments arguments;
  std::copy(std::begin(notification.data.args), std::end(notification.data.args),
            arguments.begin());
  // The rest of a sleep waits in P; that of a wait for a futex in the body itself.
  if (number == SYS_restart_syscall && !sleeps_at_home_) return let_through(notification.id);
  switch (classify_call(number, arguments, body_->home_pid)) {
    case CallClass::kForwarded:
      return forward(notification);
    case CallClass::kBoth:
      return mediate(notification);
    case CallClass::kFollowed:
      return body_can_follow(number) ? forward(notification) : need_home(number);
    case CallClass::kExit:
      return end(notification);
    case CallClass::kLocal:
      return let_through(notification.id);
    case CallClass::kServed:
      return is_clone(number) ? ask_for_thread(notification) : need_home(number);
    case CallClass::kComeHome:
      return need_home(number);
  }
  return need_home(number);
}

Status ThreadSupervisor::end(const seccomp_notif& notification) {
  const int number = notification.data.nr;
  const bool whole_process = number == SYS_exit_group || body_->threads.size() == 1;
  // A leading thread stays as a zombie until the others have ended: there is no such body.
  if (!whole_process && thread_->home_tid == body_->home_pid) return need_home(number);
  ExitMessage message;
  message.tid = thread_->home_tid;
  message.status = static_cast<std::int32_t>(notification.data.args[0]);
  message.whole_process = whole_process ? 1 : 0;
  exiting_ = whole_process;
  leaving_ = !whole_process;
  if (whole_process) DROVER_CHECK(cpu_->tell());
  DROVER_CHECK(channel_->send(type(FrameType::kExit), encode_record(message)));
  return leaving_ ? let_through(notification.id) : Status{};
}

bool ThreadSupervisor::body_can_follow(int number) const {
  if (channel_->protocol() < 2) return false;
  return body_->counts_cpu || number != SYS_clock_gettime;
}

Status ThreadSupervisor::forward(const seccomp_notif& notification) {
  CallArguments arguments;
  std::copy(std::begin(notification.data.args), std::end(notification.data.args),
            arguments.begin());
  BodyReader reader(body_->memory);
  call_.request.clear();
  if (auto s = marshal_call(notification.data.nr, arguments, reader, call_.request); !s) {
    if (s.error().code != 0) return s.error();
    return need_home(notification.data.nr);
  }
  return send_call();
}

Status ThreadSupervisor::send_call() {
  DROVER_CHECK(cpu_->before_call(call_.request, thread_->home_tid));
  call_.active = true;
  call_.sent = Clock::now();
  ++call_.sequence;
  WireWriter head;
  head.number(thread_->home_tid);
  head.number(call_.sequence);
  head.number(said_seen_ = signals_seen_);
  head.number<std::uint8_t>(if_signalled_ != kErestartnointr ? 1 : 0);
  call_.request.encode_head(head);
  return channel_->send(type(FrameType::kCall), head.data(), call_.request.data);
}

Status ThreadSupervisor::mediate(const seccomp_notif& notification) {
  switch (notification.data.nr) {
    case SYS_rt_sigprocmask:
      DROVER_CHECK(mirror_mask(notification));
      return await_mask_or_let_through(notification.id);
    case SYS_rt_sigreturn:
      DROVER_CHECK(mirror_sigreturn());
      return await_mask_or_let_through(notification.id);
    case SYS_rt_sigaction:
      DROVER_CHECK(mirror_action(notification));
      break;
    case SYS_set_tid_address:
      thread_->clear_child_tid = notification.data.args[0];
      break;
    default:
      return need_home(notification.data.nr);
  }
  return let_through(notification.id);
}

Status ThreadSupervisor::need_home(int call) {
  // It gets no further than the call, which starts anew at home.
  DROVER_CHECK(stop_in_call(if_signalled_));
  if (ended_) return {};
  return channel_->send(type(FrameType::kNeedHome),
                        encode_record(NeedHome{thread_->home_tid, call}));
}

// Stopped first, then answered.
Status ThreadSupervisor::stop_in_call(std::int64_t result) {
  DROVER_CHECK(thread_->thread.interrupt());
  DROVER_CHECK(answer(call_.notification, result));
  return wait_frozen();
}

Status ThreadSupervisor::answer(std::uint64_t id, std::int64_t result) {
  seccomp_notif_resp response{};
  response.id = id;
  if (result < 0 && result >= -4095) {
    response.error = static_cast<std::int32_t>(result);
  } else {
    response.val = result;
  }
  if (ioctl(body_->listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) != 0 && errno != ENOENT) {
    return errno_error("answer a system call of the body");
  }
  return {};
}

Status ThreadSupervisor::let_through(std::uint64_t id) {
  seccomp_notif_resp response{};
  response.id = id;
  response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  if (ioctl(body_->listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) != 0 && errno != ENOENT) {
    return errno_error("let a system call of the body through");
  }
  return {};
}

Status ThreadSupervisor::await_mask_or_let_through(std::uint64_t id) {
  return awaits_mask_ ? Status{} : let_through(id);
}

Status ThreadSupervisor::on_signal(const SignalMessage& message) {
  ++signals_seen_;
  DROVER_CHECK(say_what_is_seen());
  const siginfo_t& info = message.info;
  // Told before home had heard that it is blocked: home has taken that back (MaskAfter).
  const SignalMask blocked = program_blocks() | (awaits_mask_ ? blocked_before_ : 0);
  const bool is_void = message.although_blocked == 0 && (blocked & signal_bit(info.si_signo)) != 0;
  if (is_void && channel_->protocol() >= kFirstWithMaskAfter) return {};
  if (merge_with_waiting(info)) return {};
  DROVER_CHECK(notice_flood());
  if (call_.active || awaits_mask_ || frozen_) {
    arrived_.push_back(info);
    return {};
  }
  return queue_signal(info);
}

Status ThreadSupervisor::on_reply(ByteView payload) {
  WireReader r(payload);
  DROVER_TRY(const OutcomeHead head, OutcomeHead::decode(r));
  CallReply reply;
  DROVER_CHECK(reply.decode(r));
  if (!call_.active || head.sequence != call_.sequence) return refusal("a reply to no call");

  Bytes with_ours;
  if (body_->counts_cpu && tells_cpu_time(call_.request.number)) {
    with_ours.assign(reply.data.begin(), reply.data.end());
    add_body_cpu(call_.request, reply, *body_, thread_->home_tid, with_ours);
    reply.data = with_ours;
    body_->cpu_was_told = true;
  }
  std::int64_t result = reply.result;
  if (result == kErestartnointr) result = if_signalled_;
  if (head.end != CallEnd::kGoHome) {
    BodyWriter writer(body_->memory);
    if (auto s = apply_reply(call_.request, reply, writer); !s) {
      if (s.error().code != EFAULT) return s.error();
      result = -EFAULT;
    }
  }
  call_.active = false;
  if (head.end == CallEnd::kGoHome) return need_home(call_.request.number);
  in_call_with(result);
  switch (head.end) {
    case CallEnd::kHeld:
      return hold(result);
    case CallEnd::kDisturbed:
      return go_on(result);
    case CallEnd::kInterrupted:
      return interrupted(result);
    case CallEnd::kDone:
    case CallEnd::kGoHome:
      break;
  }
  // Whether it is what the signals ended it with depends on whether the program gets them now.
  if (!arrived_.empty() && (result == -EINTR || transferred_a_part(result))) {
    return interrupted(result);
  }
  if (is_clone(call_.request.number) && result > 0) {
    return make_thread(static_cast<std::int32_t>(result));
  }
  DROVER_CHECK(queue_arrived());
  return answer(call_.notification, result);
}

bool ThreadSupervisor::transferred_a_part(std::int64_t result) const {
  const CallRequest& request = call_.request;
  return result > 0 && request.number != SYS_recvfrom &&
         may_be_cut_short(request.number, request.arguments[3]);
}

// Stopped at the end of its call, which it goes on with when it runs again.
Status ThreadSupervisor::hold(std::int64_t result) {
  in_call_with(result);
  DROVER_CHECK(stop_in_call(result));
  if (ended_) return {};
  // Without help it is made again, longer than it would have been, or shows as a short write: no
  // reason to lose the process.
  const Status continued = continue_disturbed_call(*body_, *thread_, Clock::now() - call_.sent);
  if (!continued) log_warn("a disturbed call: {}", continued.error().message());
  return {};
}

Status ThreadSupervisor::go_on(std::int64_t result) {
  DROVER_CHECK(hold(result));
  return ended_ ? Status{} : run();
}

// A frozen one can still be killed.
Status ThreadSupervisor::look() {
  if (ended_) return {};
  DROVER_TRY(const std::optional<Stop> stop, thread_->thread.poll());
  if (stop) told_to_stop_ = false;  // for a move that has been given up
  return stop ? on_stop(*stop) : Status{};
}

Status ThreadSupervisor::gone(const Stop& stop) {
  ended_ = true;
  if (leaving_) return {};
  FatalMessage message;
  message.tid = thread_->home_tid;
  message.info.si_signo = stop.kind == Stop::Kind::kKilled ? stop.signal : SIGKILL;
  return channel_->send(type(FrameType::kFatal), encode_record(message));
}

Status ThreadSupervisor::on_stop(const Stop& stop) {
  if (stop.gone()) return gone(stop);
  if (stop.kind == Stop::Kind::kSignal) return on_signal_stop(stop.signal);
  return thread_->thread.resume();
}

// Signals that its new mask lets through may be on their way to where it goes, for home tells of
// none any more: they come before the call returns that has changed the mask.
Status ThreadSupervisor::go_no_further() {
  if (!awaits_mask_ || frozen_ || ended_) return {};
  told_to_stop_ = true;
  return thread_->thread.interrupt();
}

Status ThreadSupervisor::begin_to_stop() {
  if (frozen_ || ended_ || leaving_ || told_to_stop_) return {};
  told_to_stop_ = true;
  return thread_->thread.interrupt();
}

Status ThreadSupervisor::freeze() {
  while (leaving_ && !ended_) {
    DROVER_TRY(const Stop stop, thread_->thread.wait_for_stop());
    DROVER_CHECK(on_stop(stop));
  }
  if ((frozen_ && !stands_still_) || ended_) return {};
  if (!std::exchange(stands_still_, false)) {
    if (!std::exchange(told_to_stop_, false)) DROVER_CHECK(thread_->thread.interrupt());
    DROVER_CHECK(wait_frozen());
  }
  if (ended_) return {};
  DROVER_CHECK(leave_futex());
  DROVER_CHECK(leave_restart_block());
  return forget_vanished();
}

Status ThreadSupervisor::stand_still() {
  if (frozen_ || ended_ || leaving_ || exiting_ || awaits_home()) return {};
  if (!std::exchange(told_to_stop_, false)) DROVER_CHECK(thread_->thread.interrupt());
  DROVER_CHECK(wait_frozen());
  stands_still_ = !ended_;
  return {};
}

// What is left of the wait is known to this kernel alone: it is begun anew.
Status ThreadSupervisor::leave_futex() {
  DROVER_TRY(Registers r, thread_->thread.registers());
  const auto result = static_cast<std::int64_t>(r.rax);
  if (result != kErestartRestartblock || r.orig_rax != SYS_futex) return {};
  r.rax = static_cast<std::uint64_t>(kErestartnohand);
  return thread_->thread.set_registers(r);
}

// A signal is to end the call that it is in, but did not come to it yet: the call gives EINTR, and
// what was left of it has been told. Otherwise that is known to P only while it is hollow.
Status ThreadSupervisor::leave_restart_block() {
  DROVER_TRY(Registers r, thread_->thread.registers());
  if (static_cast<std::int64_t>(r.rax) != kErestartRestartblock || !sleeps_at_home_) return {};
  DROVER_TRY(const bool ended_by_signal, signal_waits_in_body());
  if (ended_by_signal) {
    r.rax = static_cast<std::uint64_t>(-EINTR);
    r.orig_rax = static_cast<std::uint64_t>(-1);
    in_call_with(0);
    return thread_->thread.set_registers(r);
  }
  if (r.orig_rax == SYS_poll) {
    r.rax = static_cast<std::uint64_t>(kErestartnohand);
    DROVER_CHECK(thread_->thread.set_registers(r));
  }
  DROVER_CHECK(continue_disturbed_call(*body_, *thread_, Clock::now() - call_.sent));
  DROVER_TRY(r, thread_->thread.registers());
  in_call_with(static_cast<std::int64_t>(r.rax));
  return {};
}

Status ThreadSupervisor::wait_frozen() {
  for (;;) {
    DROVER_TRY(const Stop stop, thread_->thread.wait_for_stop());
    if (stop.gone()) return gone(stop);
    if (stop.by_event()) {
      DROVER_TRY(const bool faults, fault_waits(thread_->tid));
      if (!faults) break;
      // An interrupt is always told first; only then does it come to the fault.
      DROVER_CHECK(thread_->thread.resume());
      DROVER_TRY(const Stop fault, thread_->thread.wait_for_stop());
      if (fault.gone()) return gone(fault);
      DROVER_CHECK(thread_->thread.interrupt());
      DROVER_CHECK(on_stop(fault));
      if (frozen_) break;
      continue;
    }
    DROVER_CHECK(on_stop(stop));
    if (frozen_) break;  // a fault: it stays where it is
  }
  frozen_ = true;
  return restart_unseen_call();
}

// From now on the body is in a call that has come to `result`, and goes on with it if that is a
// restart code: not a new call, so a signal that comes before home executes it again ends it as
// that code says.
void ThreadSupervisor::in_call_with(std::int64_t result) {
  sleeps_at_home_ = result == kErestartRestartblock;
  if_signalled_ = sleeps_at_home_ ? kErestartnohand : is_restart(result) ? result : kErestartnointr;
}

// A call that was stopped before we took it up has not started at home, whatever it is: a new one
// is started again and never seen to be interrupted.
Status ThreadSupervisor::restart_unseen_call() {
  DROVER_TRY(Registers r, thread_->thread.registers());
  const auto number = static_cast<std::int64_t>(r.orig_rax);
  if (static_cast<std::int64_t>(r.rax) != kErestartsys || number < 0) return {};
  const CallArguments arguments{r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
  if (classify_call(static_cast<int>(number), arguments, body_->home_pid) == CallClass::kLocal) {
    return {};
  }
  r.rax = static_cast<std::uint64_t>(if_signalled_);
  return thread_->thread.set_registers(r);
}

}  // namespace drover
