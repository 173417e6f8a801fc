#include "remote-syscall/hollow_thread.h"

#include <sys/syscall.h>

#include <cstdlib>

#include "common/process/memory_map.h"
#include "common/process/new_thread.h"

namespace drover {

bool has_ended(pid_t pid) {
  const auto status = read_proc_file("/proc/" + std::to_string(pid) + "/status");
  return !status || status->find("\nVmSize:") == std::string::npos;
}

HollowThread::HollowThread(TracedThread thread, const ForeignMemory& memory, Scratch scratch,
                           const Registers& registers)
    : thread_(thread), memory_(&memory), scratch_(scratch), base_(registers) {
  base_.orig_rax = static_cast<std::uint64_t>(-1);
}

// Also ends the waiting mask of a call such as sigsuspend that was given up: until the kernel
// puts the program's own mask back, signals would be taken that the program blocks.
Status HollowThread::to_pause_loop() {
  DROVER_TRY(const SignalMask mask, thread_.signal_mask());
  DROVER_CHECK(thread_.set_signal_mask(mask));
  Registers r = base_;
  r.rip = scratch_.pause_loop().value();
  return thread_.set_registers(r);
}

Status HollowThread::park() {
  if (state_ != State::kStopped) return {};
  DROVER_CHECK(to_pause_loop());
  DROVER_CHECK(thread_.resume());
  state_ = State::kParked;
  at_signal_ = false;
  return {};
}

Status HollowThread::start(CallRequest& request) {
  DROVER_CHECK(set_up(request));
  DROVER_CHECK(thread_.resume());
  state_ = State::kCalling;
  at_signal_ = false;
  return {};
}

Status HollowThread::start_again(CallRequest& request) {
  DROVER_CHECK(set_up(request));
  state_ = State::kCalling;
  at_signal_ = false;
  DROVER_TRY(const auto other_stop, thread_.enter_call());
  return other_stop ? handle(*other_stop) : thread_.resume();
}

Result<std::optional<std::int64_t>> HollowThread::call(CallRequest& request) {
  DROVER_CHECK(start(request));
  while (state_ == State::kCalling) {
    DROVER_TRY(const Stop stop, thread_.wait_for_stop());
    DROVER_CHECK(handle(stop));
  }
  // What it has come upon is no call of the program's.
  for (TakenSignal& signal : signals_) signal.interrupted.reset();
  const auto result = take_result();
  return result && is_restart(*result) ? std::nullopt : result;
}

Status HollowThread::set_up(CallRequest& request) {
  if (state_ == State::kParked) DROVER_CHECK(stop());
  if (state_ != State::kStopped) return refusal("a call for a thread that is not at rest");
  const CallArguments a = place(request, scratch_.data());
  if (!request.data.empty()) DROVER_CHECK(memory_->write(scratch_.data(), request.data));
  Registers r = base_;
  r.rax = static_cast<std::uint64_t>(request.number);
  r.rdi = a[0], r.rsi = a[1], r.rdx = a[2], r.r10 = a[3], r.r8 = a[4], r.r9 = a[5];
  r.rip = scratch_.trapping_call().value();
  return thread_.set_registers(r);
}

Status HollowThread::stop() {
  constexpr int kMostTries = 10;
  stopping_ = false;
  for (int i = 0; i < kMostTries; ++i) {
    if (state_ != State::kParked && state_ != State::kCalling) return {};
    DROVER_TRY(const bool in_call, interrupt());
    if (!in_call) return {};
    DROVER_TRY(const bool settled, take_waiting_signal());
    if (settled) return {};
  }
  return refusal("signals of the process come and vanish");
}

Status HollowThread::begin_to_stop() {
  if (state_ != State::kCalling) return {};
  stopping_ = true;
  return thread_.interrupt();
}

/// Stops it: whether in its call, by nothing but the interrupt.
Result<bool> HollowThread::interrupt() {
  DROVER_CHECK(thread_.interrupt());
  for (;;) {
    const bool calling = state_ == State::kCalling;
    DROVER_TRY(const Stop stop, thread_.wait_for_stop());
    DROVER_CHECK(handle(stop));
    if (state_ == State::kGone) return false;
    if (stop.kind == Stop::Kind::kInterrupt) return calling;
    // Something else came first; the interrupt is still to come, before user code runs. Or it is
    // lost: the kernel forgets it at any stop, and a timer's signal may be taken after it (the lock
    // is let go while the timer is set anew, dequeue_signal in kernel/signal.c). It comes once.
    if (at_signal_ && !signals_.empty()) signals_.back().cancelled = true;
    DROVER_CHECK(thread_.interrupt());
    DROVER_CHECK(to_pause_loop());
    DROVER_CHECK(thread_.resume());
    state_ = State::kParked;
    at_signal_ = false;
  }
}

// The kernel reports an interrupt before a signal that waits. Resumed, it goes on with the
// signal, and what the call came to stands unchanged. But if the signal has been taken back in
// between, it goes on with the call. False: it does.
Result<bool> HollowThread::take_waiting_signal() {
  constexpr std::chrono::milliseconds kDelivery{20};
  DROVER_TRY(const bool waits, signal_waits());
  if (!waits) return true;
  state_ = State::kCalling;
  result_.reset();
  DROVER_TRY(const auto other_stop, thread_.go_on_in_call());
  if (!other_stop) return await_stop(kDelivery);
  DROVER_CHECK(handle(*other_stop));
  return true;
}

Result<bool> HollowThread::signal_waits() const {
  DROVER_TRY(const SignalMask mask, blocked_signals(tid()));
  DROVER_TRY(const SignalMask pending, pending_signals(tid()));
  return (pending & ~mask) != 0;
}

// A stopped one can still be killed.
Status HollowThread::look() {
  if (state_ == State::kGone) return {};
  DROVER_TRY(const std::optional<Stop> stop, thread_.poll());
  if (!stop) return {};
  DROVER_CHECK(handle(*stop));
  const bool asked_for = std::exchange(stopping_, false);
  if (!asked_for || stop->kind != Stop::Kind::kInterrupt) return {};
  DROVER_TRY(bool settled, take_waiting_signal());
  // An earlier interrupt, which came when it had stopped already, may have come instead.
  if (settled && signals_.empty() && state_ == State::kStopped) {
    DROVER_TRY(settled, take_waiting_signal());
  }
  return settled ? Status{} : begin_to_stop();
}

Status HollowThread::await_stop() {
  if (state_ != State::kParked && state_ != State::kCalling) return {};
  DROVER_TRY(const Stop stop, thread_.wait());
  return handle(stop);
}

Result<bool> HollowThread::await_stop(std::chrono::milliseconds patience) {
  if (state_ != State::kParked && state_ != State::kCalling) return true;
  DROVER_TRY(const std::optional<Stop> stop, thread_.wait_within(patience));
  if (stop) DROVER_CHECK(handle(*stop));
  return stop.has_value();
}

Status HollowThread::handle(const Stop& stop) {
  if (stop.gone()) {
    state_ = State::kGone;
    wait_status_ = stop.wait_status;
    return {};
  }
  DROVER_TRY(const Registers r, thread_.registers());
  const bool calling = state_ == State::kCalling;
  state_ = State::kStopped;

  const bool trap = stop.kind == Stop::Kind::kSignal && stop.signal == SIGTRAP;
  if (calling && trap && ForeignAddress(r.rip) == scratch_.after_trap()) {
    result_ = static_cast<std::int64_t>(r.rax);
    return {};
  }
  // What the call had come to when it was disturbed: rip is past the instruction whether or
  // not it took effect; rax tells.
  std::optional<std::int64_t> interrupted;
  if (calling) {
    const auto rax = static_cast<std::int64_t>(r.rax);
    if (ForeignAddress(r.rip) == scratch_.trapping_call()) {
      interrupted = kErestartnointr;
    } else if (is_restart(rax)) {
      interrupted = rax;
    } else {
      result_ = rax;
    }
  }
  if (stop.kind == Stop::Kind::kSignal) {
    DROVER_TRY(const siginfo_t info, thread_.signal_info());
    signals_.push_back({info, interrupted});
    at_signal_ = true;
    return {};
  }
  if (interrupted) result_ = interrupted;
  return {};
}

std::optional<std::int64_t> HollowThread::take_result() { return std::exchange(result_, {}); }

std::optional<TakenSignal> HollowThread::take_signal() {
  if (signals_.empty()) return std::nullopt;
  TakenSignal signal = signals_.front();
  signals_.pop_front();
  return signal;
}

Status HollowThread::go_on() {
  if (state_ != State::kStopped) return {};
  state_ = State::kCalling;
  at_signal_ = false;
  DROVER_TRY(const auto other_stop, thread_.go_on_in_call());
  return other_stop ? handle(*other_stop) : Status{};
}

Status HollowThread::cancel() {
  at_signal_ = false;
  return to_pause_loop();
}

Result<std::int64_t> HollowThread::make_another(const Scratch& scratch, std::uint64_t flags,
                                                std::list<HollowThread>& threads) const {
  clone_args wanted{};
  wanted.flags = flags;
  DROVER_TRY(const NewThread made, make_thread(thread_, *memory_, scratch_, wanted));
  if (made.result >= 0) threads.emplace_back(made.thread, *memory_, scratch, base_);
  return made.result;
}

Status HollowThread::begin_to_die(int signal) {
  if (signal == SIGKILL) {
    kill(memory_->pid(), SIGKILL);
    return {};
  }
  if (!at_signal_) {
    // The end of an injected call is the delivery of a signal: of whichever we say.
    DROVER_TRY(Injection injection, Injection::trapping(thread_, scratch_));
    DROVER_CHECK(memory_->write_record(scratch_.data(), std::array<std::uint64_t, 4>{}));
    DROVER_CHECK(injection.call(
        "rt_sigaction", SYS_rt_sigaction,
        {static_cast<std::uint64_t>(signal), scratch_.data().value(), 0, sizeof(SignalMask)}));
    DROVER_CHECK(injection.end());
  }
  DROVER_CHECK(thread_.set_signal_mask(0));
  return thread_.resume(signal);
}

Status HollowThread::await_end() {
  constexpr std::chrono::seconds kEndPatience{8};
  if (state_ == State::kGone) return {};
  for (;;) {
    DROVER_TRY(const std::optional<Stop> stop, thread_.wait_within(kEndPatience));
    if (!stop) {
      return refusal("process " + std::to_string(tid()) +
                     " does not end: it is in a wait that nothing interrupts");
    }
    if (stop->gone()) return handle(*stop);
    DROVER_CHECK(thread_.resume());
  }
}

}  // namespace drover
