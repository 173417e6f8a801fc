#include "migrate/leaving_thread.h"

#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <chrono>
#include <ctime>

#include "common/process/continued_call.h"
#include "common/process/interrupted_sleep.h"
#include "common/process/short_transfer.h"
#include "common/process/timed_wait.h"
#include "migrate/jobs_process.h"
#include "remote-syscall/home_thread.h"

namespace drover {
namespace {

/// Whether the process is in our time namespace (time_namespaces(7)).
bool shares_our_clocks(pid_t pid) {
  struct stat its {
  }, ours{};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/time";
  return stat(path.c_str(), &its) == 0 && stat("/proc/self/ns/time", &ours) == 0 &&
         its.st_ino == ours.st_ino && its.st_dev == ours.st_dev;
}

/// One that has ended, but of which there is still a trace, cannot be seized: EPERM.
bool is_ending(pid_t tid) {
  const auto status = read_process(tid);
  return !status || status->state == 'Z' || status->state == 'X';
}

}  // namespace

Result<bool> LeavingThread::seize() {
  auto thread = TracedThread::seize(tid_, PTRACE_O_TRACESYSGOOD);
  if (!thread && (thread.error().code == ESRCH || is_ending(tid_))) return false;
  DROVER_TRY(thread_, std::move(thread));
  seized_ = true;
  DROVER_CHECK(thread_.interrupt());
  return true;
}

Result<bool> LeavingThread::freeze(std::optional<Stop> met) {
  for (;;) {
    auto stopped = met ? Result<Stop>(*met) : thread_.wait_for_stop();
    met.reset();
    stops_ = stopped.ok();
    DROVER_TRY(const Stop stop, std::move(stopped));
    if (stop.gone()) return false;
    frozen_ = true;
    if (stop.by_event()) {
      in_group_stop_ = stop.kind == Stop::Kind::kGroupStop;
      DROVER_TRY(const bool settled, settle_interrupted_call());
      // In a stop, what waits comes after it, wherever the process is then.
      if (settled || in_group_stop_) return true;
      // Let go, it stops at the delivery of the signal that waits.
      DROVER_TRY(met, thread_.go_on_in_call());
      frozen_ = met.has_value();
      if (!met) {
        DROVER_TRY(met, await_signal());
      }
      continue;
    }
    // A signal was on its way: the process takes it before it leaves.
    DROVER_CHECK(thread_.interrupt());
    DROVER_CHECK(thread_.resume(stop.kind == Stop::Kind::kSignal ? stop.signal : 0));
    frozen_ = false;
  }
}

// But one that waits for the process may be taken by another thread, and this one goes on.
Result<std::optional<Stop>> LeavingThread::await_signal() {
  constexpr std::chrono::milliseconds kDelivery{20};
  DROVER_TRY(const std::optional<Stop> stop, thread_.wait_within(kDelivery));
  if (!stop) DROVER_CHECK(thread_.interrupt());
  return stop;
}

Result<bool> LeavingThread::is_there() {
  DROVER_TRY(const std::optional<Stop> stop, thread_.poll());
  if (stop && stop->gone()) stops_ = false;
  return stops_;
}

Result<bool> LeavingThread::hold() {
  if (!seized_ || !stops_) return false;
  if (frozen_) return true;
  DROVER_CHECK(thread_.interrupt());
  for (;;) {
    DROVER_TRY(const Stop stop, thread_.wait_for_stop());
    frozen_ = stop.by_event();
    if (frozen_ || stop.gone()) return frozen_;
    DROVER_CHECK(thread_.interrupt());
    DROVER_CHECK(thread_.resume(stop.kind == Stop::Kind::kSignal ? stop.signal : 0));
  }
}

Result<bool> LeavingThread::let_go() {
  if (seized_ && stops_ && !frozen_) {
    DROVER_TRY(const std::optional<Stop> stop, thread_.poll());
    if (!stop) return false;
    // The stop that it was asked for may come upon a call that shows it.
    const Result<bool> there = freeze(stop);
    if (there && !*there) return true;
  }
  DROVER_TRY(const bool held, hold());
  seized_ = false;
  if (held) DROVER_CHECK(thread_.detach_in_call());
  return true;
}

// A call that our stop has interrupted must not show it: the kernel restarts most by itself,
// but some give EINTR for any wake-up. False: a signal is waiting, which is to be taken first: it
// may be one that the program has just sent itself, and is handled before that call returns.
Result<bool> LeavingThread::settle_interrupted_call() {
  DROVER_TRY(Registers r, thread_.registers());
  const auto call = static_cast<std::int64_t>(r.orig_rax);
  const auto result = static_cast<std::int64_t>(r.rax);
  DROVER_TRY(const bool cut_short, is_cut_short(r, *memory_));
  DROVER_TRY(const SignalMask mask, blocked_signals(tid_));
  DROVER_TRY(const SignalMask pending, pending_signals(tid_));
  const bool waits = (pending & ~mask) != 0;
  if (call < 0 || (!is_restart(result) && result != -EINTR && !cut_short)) return !waits;
  // But a wait that the kernel would resume from what it keeps could not be moved any more then.
  if (waits && result != kErestartRestartblock) return false;
  if (cut_short) {
    DROVER_CHECK(continue_write(r));
    return true;
  }
  if (call == SYS_restart_syscall && result == kErestartRestartblock) {
    return refusal("it is in a wait that is being resumed: try again");
  }
  DROVER_TRY(const bool sleeps_on, continue_sleep(r));
  if (sleeps_on) return !waits;
  const bool begun_anew =
      (result == kErestartRestartblock && call != SYS_nanosleep && call != SYS_clock_nanosleep) ||
      (result == -EINTR && is_made_again_after_eintr(static_cast<int>(call)));
  if (!begun_anew) return !waits;
  r.rax = static_cast<std::uint64_t>(kErestartnohand);
  const bool timed = is_timed_wait(r) && shares_our_clocks(pid_);
  DROVER_TRY(const bool known, timed ? is_continued(r, *memory_) : false);
  if (known) {
    DROVER_TRY(r, rest_of_wait(r));
  }
  DROVER_CHECK(thread_.set_registers(r));
  return !waits;
}

// When it ends is known since it was away.
Result<Registers> LeavingThread::rest_of_wait(const Registers& registers) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  DROVER_TRY(Injection injection, Injection::returning(thread_, *memory_));
  DROVER_TRY(const Registers rest, continue_timed_wait(tid_, registers, {},
                                                       std::chrono::seconds(now.tv_sec) +
                                                           std::chrono::nanoseconds(now.tv_nsec),
                                                       *memory_, injection));
  DROVER_CHECK(injection.end());
  return rest;
}

Status LeavingThread::continue_write(const Registers& registers) {
  if (!transfers_wait(pid_, static_cast<int>(registers.rdi))) return {};
  DROVER_TRY(Injection injection, Injection::returning(thread_, *memory_));
  DROVER_TRY(const Registers rest, continue_short_transfer(tid_, registers, *memory_, injection));
  DROVER_CHECK(injection.end());
  return thread_.set_registers(rest);
}

// The kernel has just written the time left to where the program wants it, if it does.
Result<bool> LeavingThread::continue_sleep(const Registers& registers) {
  const auto sleep = interrupted_sleep(registers);
  if (!sleep || sleep->left.is_null() || !shares_our_clocks(pid_)) return false;
  DROVER_TRY(const auto left, memory_->read_record<timespec>(sleep->left));
  timespec now{};
  clock_gettime(sleep->clock, &now);
  const auto until = bounded(now) + bounded(left);
  DROVER_TRY(Injection injection, Injection::returning(thread_, *memory_));
  DROVER_TRY(const Registers rest,
             drover::continue_sleep(tid_, registers, *sleep, until, *memory_, injection));
  DROVER_CHECK(injection.end());
  DROVER_CHECK(thread_.set_registers(rest));
  return true;
}

}  // namespace drover
