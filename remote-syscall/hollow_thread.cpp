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
                           const Registers& registers, bool in_group_stop)
    : thread_(thread),
      memory_(&memory),
      scratch_(scratch),
      base_(registers),
      in_group_stop_(in_group_stop) {
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
  return run_as(State::kParked);
}

// In a stop of the process it is told to stop before it runs: by that it says how things stand.
Status HollowThread::run_as(State state) {
  if (in_group_stop_) DROVER_CHECK(thread_.interrupt());
  DROVER_CHECK(thread_.resume());
  state_ = state;
  at_signal_ = stopping_ = false;
  return {};
}

Status HollowThread::start(CallRequest& request) {
  DROVER_CHECK(set_up(request));
  return run_as(State::kCalling);
}

Status HollowThread::start_to_end(CallRequest& request) {
  DROVER_CHECK(set_up(request));
  in_group_stop_ = false;
  return run_as(State::kCalling);
}

Status HollowThread::start_again(CallRequest& request) {
  DROVER_CHECK(set_up(request));
  if (in_group_stop_) return run_as(State::kCalling);
  state_ = State::kCalling;
  at_signal_ = false;
  for (;;) {
    DROVER_TRY(const auto other_stop, thread_.enter_call());
    if (!other_stop) return thread_.resume();
    if (other_stop->kind != Stop::Kind::kInterrupt) return handle(*other_stop);
  }
}

Result<std::optional<std::int64_t>> HollowThread::call(CallRequest& request) {
  DROVER_CHECK(start(request));
  while (state_ == State::kCalling) {
    DROVER_TRY(const Stop stop, thread_.wait_for_stop());
    DROVER_CHECK(handle(stop, Asked::kYes));
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
  stopping_ = false;
  for (const auto deadline = std::chrono::steady_clock::now() + kStopPatience;;) {
    if (state_ != State::kParked && state_ != State::kCalling) return {};
    DROVER_TRY(const bool in_call, interrupt());
    if (!in_call || in_group_stop_) return {};
    // Signals that come and vanish without end are left where they are.
    if (std::chrono::steady_clock::now() > deadline) return {};
    DROVER_TRY(const bool settled, take_waiting_signal());
    if (settled) return {};
  }
}

Status HollowThread::begin_to_stop() {
  if (state_ != State::kCalling || stopping_) return {};
  stopping_ = true;
  return thread_.interrupt();
}

/// Stops it: whether in its call, by nothing but the interrupt.
Result<bool> HollowThread::interrupt() {
  DROVER_CHECK(thread_.interrupt());
  for (;;) {
    const bool calling = state_ == State::kCalling;
    DROVER_TRY(const Stop stop, thread_.wait_for_stop());
    DROVER_CHECK(handle(stop, Asked::kYes));
    if (state_ == State::kGone) return false;
    if (stop.by_event()) return calling;
    if (state_ != State::kStopped) continue;  // let go with a stop, and told to stop again
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
  return is_held();
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
  DROVER_CHECK(handle(*stop, stopping_ ? Asked::kYes : Asked::kNo));
  if (!stopping_ || !is_held()) return {};
  stopping_ = false;
  if (stop->kind != Stop::Kind::kInterrupt) return {};
  DROVER_TRY(bool settled, take_waiting_signal());
  // An earlier interrupt, which came when it had stopped already, may have come instead.
  if (settled && signals_.empty() && state_ == State::kStopped) {
    DROVER_TRY(settled, take_waiting_signal());
  }
  return settled ? Status{} : begin_to_stop();
}

Result<bool> HollowThread::await_stop(std::chrono::milliseconds patience) {
  if (is_held()) return true;
  DROVER_TRY(const std::optional<Stop> stop, thread_.wait_within(patience));
  if (stop) DROVER_CHECK(handle(*stop));
  return is_held();
}

Status HollowThread::handle(const Stop& stop, Asked asked) {
  listens_ = false;
  if (stop.gone()) {
    state_ = State::kGone;
    wait_status_ = stop.wait_status;
    return {};
  }
  const bool was_in_group_stop = in_group_stop_;
  if (stop.by_event()) in_group_stop_ = stop.kind == Stop::Kind::kGroupStop;
  const bool runs = state_ == State::kParked || state_ == State::kCalling;
  if (runs && asked == Asked::kNo && stop.by_event()) return go_on_from_event(was_in_group_stop);
  // Straight away: the kernel remembers only until the next stop that no SIGCONT has come since.
  if (stop.kind == Stop::Kind::kSignal && stops_by_default(tid(), stop.signal)) {
    if (asked == Asked::kYes) DROVER_CHECK(thread_.interrupt());
    stop_signal_ = stop.signal;
    return thread_.resume(stop.signal);
  }
  return take_up(stop);
}

// Whatever the event was about, in its call the thread is where it was, and the kernel goes on with
// that by itself. But some calls give EINTR for it, as they do after a stop: not so if there was
// none, as when a SIGCONT comes to a process that is not stopped.
Status HollowThread::go_on_from_event(bool was_in_group_stop) {
  if (in_group_stop_) {
    listens_ = true;
    return thread_.listen();
  }
  if (was_in_group_stop && state_ == State::kParked) {
    state_ = State::kStopped;
    return {};
  }
  disturbed_ = disturbed_ || !was_in_group_stop;
  return thread_.resume();
}

Status HollowThread::take_up(const Stop& stop) {
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
  if (made.result >= 0) {
    threads.emplace_back(made.thread, *memory_, scratch, base_, made.in_group_stop);
  }
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
    // A SIGSTOP is the process's, though this thread takes no part any more.
    const bool stops = stop->kind == Stop::Kind::kSignal && stop->signal == SIGSTOP;
    DROVER_CHECK(thread_.resume(stops ? SIGSTOP : 0));
  }
}

}  // namespace drover
