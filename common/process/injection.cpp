#include "common/process/injection.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace drover {

namespace {

Error broken_into_by(int signal) {
  return refusal("signal " + std::to_string(signal) + " broke into an injected call");
}

}  // namespace

Result<ForeignAddress> find_vdso_syscall(const ForeignMemory& memory, ForeignRange vdso) {
  Bytes code(vdso.size());
  DROVER_CHECK(memory.read(vdso.start, code));
  constexpr std::array<std::byte, 2> kSyscall{std::byte{0x0f}, std::byte{0x05}};
  const auto at = std::search(code.begin(), code.end(), kSyscall.begin(), kSyscall.end());
  if (at == code.end()) return refusal("the process's vDSO has no syscall instruction");
  return vdso.start + static_cast<std::uint64_t>(at - code.begin());
}

Result<std::int64_t> read_clock(Injection& injection, const ForeignMemory& memory,
                                const Scratch& scratch, clockid_t clock) {
  DROVER_CHECK(injection.call("clock_gettime", SYS_clock_gettime,
                              {static_cast<std::uint64_t>(clock), scratch.data().value()}));
  DROVER_TRY(const auto t, memory.read_record<timespec>(scratch.data()));
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

Result<Injection> Injection::begin(const TracedThread& thread, Site site, const Scratch& scratch) {
  return begin(thread, site,
               site == Site::kTrapping ? scratch.trapping_call() : scratch.returning_call(),
               scratch.frame());
}

Result<Injection> Injection::begin(const TracedThread& thread, Site site,
                                   ForeignAddress site_address, ForeignAddress return_frame) {
  Injection injection(thread, site, site_address, return_frame);
  DROVER_TRY(injection.saved_, thread.registers());
  DROVER_TRY(injection.mask_, thread.signal_mask());
  // A trap while SIGTRAP is blocked would make the kernel forget the program's action for it.
  const SignalMask let_through = site == Site::kTrapping ? signal_bit(SIGTRAP) : 0;
  DROVER_CHECK(thread.set_signal_mask(kAllSignals & ~let_through));
  injection.active_ = true;
  return injection;
}

Injection::Injection(Injection&& o) noexcept
    : thread_(o.thread_),
      site_(o.site_),
      at_(o.at_),
      frame_(o.frame_),
      saved_(o.saved_),
      mask_(o.mask_),
      stop_held_(o.stop_held_),
      active_(std::exchange(o.active_, false)) {}

Injection::~Injection() {
  if (active_) static_cast<void>(end());
}

Result<std::int64_t> Injection::raw(long number, std::array<std::uint64_t, 6> a) {
  Registers r = saved_;
  r.rax = static_cast<std::uint64_t>(number);
  r.rdi = a[0], r.rsi = a[1], r.rdx = a[2], r.r10 = a[3], r.r8 = a[4], r.r9 = a[5];
  r.orig_rax = static_cast<std::uint64_t>(-1);
  r.rip = at_.value();
  // Off any stack of the program's: sigaltstack(2) refuses to change the one in use.
  r.rsp = site_ == Site::kReturning ? frame_.value() : at_.value();
  for (;;) {
    DROVER_TRY(const std::int64_t result, run_once(r));
    if (!is_restart(result)) return result;
  }
}

Result<std::uint64_t> Injection::call(const char* what, long number,
                                      std::array<std::uint64_t, 6> arguments) {
  DROVER_TRY(const std::int64_t result, raw(number, arguments));
  if (result < 0 && result >= -4095) {
    return Error{static_cast<int>(-result), std::string(what) + " in the process"};
  }
  return static_cast<std::uint64_t>(result);
}

Result<std::int64_t> Injection::run_once(const Registers& start) {
  DROVER_CHECK(thread_->set_registers(start));
  if (site_ != Site::kTrapping) {
    DROVER_CHECK(to_next_syscall_stop());
    DROVER_CHECK(to_next_syscall_stop());
    DROVER_TRY(const Registers r, thread_->registers());
    return static_cast<std::int64_t>(r.rax);
  }
  for (;;) {
    DROVER_CHECK(thread_->resume());
    DROVER_TRY(const Stop stop, thread_->wait());
    if (stop.gone()) return refusal("the process ended while it was held");
    DROVER_TRY(const Registers r, thread_->registers());
    if (stop.kind != Stop::Kind::kSignal) continue;
    if (stop.signal == SIGTRAP && r.rip == at_.value() + 3) return static_cast<std::int64_t>(r.rax);
    if (stop.signal == SIGSTOP) stop_held_ = true;
    // All others are blocked: such a one is a fault of the call itself.
    if (stop.signal != SIGSTOP && stop.signal != SIGTRAP) return broken_into_by(stop.signal);
  }
}

Status Injection::to_next_syscall_stop() {
  for (;;) {
    DROVER_CHECK(thread_->resume_to_syscall());
    DROVER_TRY(const Stop stop, thread_->wait());
    if (stop.gone()) return refusal("the process ended while it was held");
    if (stop.kind == Stop::Kind::kSyscall) return {};
    if (stop.kind == Stop::Kind::kSignal && stop.signal == SIGSTOP) {
      stop_held_ = true;
    } else if (stop.kind == Stop::Kind::kSignal) {
      return broken_into_by(stop.signal);
    }
  }
}

// From a syscall-exit-stop to a stop in the kernel's signal path: only from there does the
// kernel look at orig_rax and restart an interrupted call by itself.
Status Injection::settle() {
  DROVER_CHECK(thread_->interrupt());
  for (;;) {
    DROVER_CHECK(thread_->resume());
    DROVER_TRY(const Stop stop, thread_->wait());
    if (stop.gone()) return refusal("the process ended while it was held");
    if (stop.kind == Stop::Kind::kInterrupt || stop.kind == Stop::Kind::kGroupStop) return {};
    if (stop.kind == Stop::Kind::kSignal && stop.signal == SIGSTOP) stop_held_ = true;
  }
}

// A SIGCONT that waits came later, and would be taken back by another stop.
Status Injection::stop_again() const {
  DROVER_TRY(const SignalMask pending, pending_signals(thread_->tid()));
  if ((pending & signal_bit(SIGCONT)) != 0) return {};
  if (syscall(SYS_tkill, thread_->tid(), SIGSTOP) != 0) {
    return errno_error("send the process the stop that came meanwhile");
  }
  return {};
}

Status Injection::end() {
  if (!active_) return {};
  active_ = false;
  if (site_ != Site::kTrapping) DROVER_CHECK(settle());
  DROVER_CHECK(thread_->set_registers(saved_));
  DROVER_CHECK(thread_->set_signal_mask(mask_));
  return std::exchange(stop_held_, false) ? stop_again() : Status{};
}

}  // namespace drover
