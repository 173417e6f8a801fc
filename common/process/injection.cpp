#include "common/process/injection.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>
#include <ctime>
#include <span>

#include "common/process/memory_map.h"

namespace drover {

namespace {

bool failed(std::int64_t result) { return result < 0 && result >= -4095; }

Error broken_into_by(int signal) {
  return refusal("signal " + std::to_string(signal) + " broke into an injected call");
}

Result<ForeignRange> vdso_of(pid_t pid) {
  DROVER_TRY(const std::string maps, read_proc_file("/proc/" + std::to_string(pid) + "/maps"));
  DROVER_TRY(const auto areas, parse_maps(maps));
  return find_vdso(areas);
}

}  // namespace

Result<std::int64_t> read_clock(Injection& injection, const ForeignMemory& memory,
                                const Scratch& scratch, clockid_t clock) {
  DROVER_CHECK(injection.call("clock_gettime", SYS_clock_gettime,
                              {static_cast<std::uint64_t>(clock), scratch.data().value()}));
  DROVER_TRY(const auto t, memory.read_record<timespec>(scratch.data()));
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// Whenever the signal mask is ours, the registers lead to the way back: should we die, the thread
// never goes on with signals blocked.
Result<Injection> Injection::returning(const TracedThread& thread, const ForeignMemory& memory) {
  DROVER_TRY(const ForeignRange vdso, vdso_of(memory.pid()));
  Injection injection(thread);
  DROVER_CHECK(injection.borrow());
  DROVER_TRY(injection.way_back_,
             ReturningCall::put(memory, vdso, injection.saved_, injection.mask_));
  injection.at_ = injection.way_back_->call();
  Registers back = injection.saved_;
  back.orig_rax = static_cast<std::uint64_t>(-1);
  back.rip = injection.way_back_->way_back().value();
  DROVER_CHECK(thread.set_registers(back));
  injection.active_ = true;
  DROVER_CHECK(thread.set_signal_mask(kAllSignals));
  return injection;
}

Result<Injection> Injection::trapping(const TracedThread& thread, const Scratch& scratch) {
  Injection injection(thread);
  DROVER_CHECK(injection.borrow());
  injection.at_ = scratch.trapping_call();
  injection.scratch_ = scratch;
  // A trap while SIGTRAP is blocked would make the kernel forget the program's action for it.
  DROVER_CHECK(thread.set_signal_mask(kAllSignals & ~signal_bit(SIGTRAP)));
  injection.active_ = true;
  return injection;
}

Status Injection::borrow() {
  DROVER_TRY(saved_, thread_->registers());
  DROVER_TRY(mask_, thread_->signal_mask());
  return {};
}

Injection::Injection(Injection&& o) noexcept
    : thread_(o.thread_),
      at_(o.at_),
      scratch_(o.scratch_),
      way_back_(std::move(o.way_back_)),
      saved_(o.saved_),
      mask_(o.mask_),
      born_(o.born_),
      met_stop_(o.met_stop_),
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
  // Off any stack of the program's: sigaltstack(2) refuses to change the one in use. Who goes back
  // by itself keeps its own, which a signal may need at once.
  if (!way_back_) r.rsp = at_.value();
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

Status Injection::call_all(const ForeignMemory& memory, const std::vector<InjectedCall>& calls) {
  DROVER_TRY(const CallsMade made, call_while_good(memory, calls));
  return made.failure;
}

Result<CallsMade> Injection::call_while_good(const ForeignMemory& memory,
                                             const std::vector<InjectedCall>& calls) {
  DROVER_TRY(const auto results, run_in_a_row(memory, calls));
  const auto bad = std::ranges::find_if(results, failed);
  CallsMade made;
  made.good = static_cast<std::size_t>(bad - results.begin());
  if (bad != results.end()) {
    made.failure =
        Error{static_cast<int>(-*bad), std::string(calls[made.good].what) + " in the process"};
  }
  return made;
}

/// What each call gave, up to one that failed.
Result<std::vector<std::int64_t>> Injection::run_in_a_row(const ForeignMemory& memory,
                                                          const std::vector<InjectedCall>& calls) {
  struct Row {
    std::int64_t number;
    std::array<std::uint64_t, 6> arguments;
    std::int64_t result;
  };
  static_assert(sizeof(Row) == kCallRow);
  std::vector<Row> rows;
  for (const InjectedCall& call : calls) rows.push_back({call.number, call.arguments, 0});
  rows.push_back({-1, {}, 0});
  DROVER_CHECK(memory.write(scratch_.table(), std::as_bytes(std::span(rows))));
  Registers r = saved_;
  r.orig_rax = static_cast<std::uint64_t>(-1);
  r.rip = scratch_.calls_in_a_row().value();
  r.rbx = scratch_.table().value();
  r.rsp = at_.value();
  DROVER_CHECK(run_to_trap(r, scratch_.after_calls_in_a_row()));
  DROVER_CHECK(memory.read(scratch_.table(), std::as_writable_bytes(std::span(rows))));
  std::vector<std::int64_t> results;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    results.push_back(rows[i].result);
    if (failed(results.back())) break;
  }
  return results;
}

Result<std::int64_t> Injection::run_once(const Registers& start) {
  Registers r;
  if (way_back_) {
    DROVER_CHECK(thread_->set_registers(start));
    DROVER_CHECK(to_next_syscall_stop());
    DROVER_CHECK(to_next_syscall_stop());
    DROVER_TRY(r, thread_->registers());
  } else {
    DROVER_TRY(r, run_to_trap(start, at_ + 3));
  }
  return static_cast<std::int64_t>(r.rax);
}

Result<Registers> Injection::run_to_trap(const Registers& start, ForeignAddress trap) {
  DROVER_CHECK(thread_->set_registers(start));
  for (int signal = 0;;) {
    DROVER_CHECK(thread_->resume(signal));
    DROVER_TRY(const Stop stop, wait());
    signal = to_deliver(stop);
    DROVER_TRY(const Registers r, thread_->registers());
    if (stop.kind == Stop::Kind::kEvent && stop.event == PTRACE_EVENT_CLONE) {
      DROVER_TRY(const unsigned long born, thread_->event_message());
      born_ = static_cast<pid_t>(born);
    }
    if (stop.kind != Stop::Kind::kSignal) continue;
    if (stop.signal == SIGTRAP && r.rip == trap.value()) return r;
    // All others are blocked: such a one is a fault of the call itself.
    if (signal == 0 && stop.signal != SIGTRAP) return broken_into_by(stop.signal);
  }
}

Status Injection::to_next_syscall_stop() {
  for (int signal = 0;;) {
    DROVER_CHECK(thread_->resume_to_syscall(signal));
    DROVER_TRY(const Stop stop, wait());
    signal = to_deliver(stop);
    if (stop.kind == Stop::Kind::kSyscall) return {};
    if (stop.kind == Stop::Kind::kSignal && signal == 0) return broken_into_by(stop.signal);
  }
}

// Only the kernel can stop a process so that a SIGCONT, which may come at any time, finds it
// stopped or about to be. That the thread then stands still as well is up to us.
int Injection::to_deliver(const Stop& stop) {
  met_stop_ = met_stop_ || stop.kind == Stop::Kind::kGroupStop;
  return stop.kind == Stop::Kind::kSignal && stop.signal == SIGSTOP ? SIGSTOP : 0;
}

// What cannot be waited for any longer is not given back either.
Result<Stop> Injection::wait() {
  auto stop = thread_->wait_while_held();
  active_ = active_ && stop.ok();
  return stop;
}

// From a syscall-exit-stop to a stop in the kernel's signal path: only from there does the
// kernel look at orig_rax and restart an interrupted call by itself.
Status Injection::settle() {
  DROVER_CHECK(thread_->interrupt());
  for (int signal = 0;;) {
    DROVER_CHECK(thread_->resume(signal));
    DROVER_TRY(const Stop stop, wait());
    signal = to_deliver(stop);
    if (stop.by_event()) return {};
  }
}

Status Injection::end() {
  if (!active_) return {};
  active_ = false;
  if (way_back_) DROVER_CHECK(settle());
  DROVER_CHECK(thread_->set_signal_mask(mask_));
  DROVER_CHECK(thread_->set_registers(saved_));
  if (way_back_) DROVER_CHECK(way_back_->remove());
  return std::exchange(met_stop_, false) ? thread_->interrupt() : Status{};
}

}  // namespace drover
