// System calls executed by another thread on our behalf.
#pragma once

#include <array>
#include <ctime>
#include <optional>
#include <vector>

#include "common/process/foreign_memory.h"
#include "common/process/returning_call.h"
#include "common/process/scratch.h"
#include "common/process/traced_thread.h"

namespace drover {

/// One of several calls.
struct InjectedCall {
  const char* what;
  long number;
  std::array<std::uint64_t, 6> arguments;
};

/// How several went.
struct CallsMade {
  std::size_t good = 0;
  Status failure;  ///< that of the one after those, if there was one
};

/// What one of them takes up in Scratch::table(), in bytes; so does the end.
inline constexpr std::size_t kCallRow = 64;

/// Borrows a stopped thread: while this object lives, `call` makes the thread execute system
/// calls; when it ends, registers, extended state and signal mask are again what they were
/// and the thread is stopped as before. Signals stay pending meanwhile; but a SIGSTOP, which cannot
/// be blocked, stops the process, as whoever looks at it sees: we alone let the thread go on. If
/// there is such a stop, the thread tells of it as soon as it is let go after the end.
class Injection {
 public:
  /// By the vDSO, two stops a call: if we die, the thread goes back by itself to where it was, and
  /// goes on as if it had never been stopped. `thread` is stopped; it and `memory` outlive this.
  static Result<Injection> returning(const TracedThread& thread, const ForeignMemory& memory);
  /// By the scratch, one stop a call: only when the thread is to die with us.
  static Result<Injection> trapping(const TracedThread& thread, const Scratch& scratch);

  Injection(Injection&& other) noexcept;
  Injection& operator=(Injection&&) = delete;
  ~Injection();

  /// Executes one call. The value is what the kernel returned: a result or a negative errno.
  /// An error means that the thread is gone, or does not come back from the call: then it is out
  /// of our control.
  Result<std::int64_t> raw(long number, std::array<std::uint64_t, 6> arguments = {});
  /// The same, with a failed call as an error named `what`.
  Result<std::uint64_t> call(const char* what, long number,
                             std::array<std::uint64_t, 6> arguments = {});

  /// The same for calls that are made one after the other, with one stop for all, up to one that
  /// fails. Only by the scratch; `memory` is the thread's.
  Status call_all(const ForeignMemory& memory, const std::vector<InjectedCall>& calls);
  /// The same: how many were made before one failed, and why that one did. That is no error.
  Result<CallsMade> call_while_good(const ForeignMemory& memory,
                                    const std::vector<InjectedCall>& calls);

  /// Whether a stop of the process was met in one of the calls, and not the end of it since.
  bool met_stop() const { return met_stop_; }

  /// The thread that a call has made under PTRACE_O_TRACECLONE, as we see it.
  std::optional<pid_t> born() const { return born_; }

  /// Gives the thread back now, and says if that failed.
  Status end();

 private:
  explicit Injection(const TracedThread& thread) : thread_(&thread) {}
  Status borrow();
  Result<std::int64_t> run_once(const Registers& start);
  Result<Registers> run_to_trap(const Registers& start, ForeignAddress trap);
  Result<std::vector<std::int64_t>> run_in_a_row(const ForeignMemory& memory,
                                                 const std::vector<InjectedCall>& calls);
  Result<Stop> wait();
  Status to_next_syscall_stop();
  int to_deliver(const Stop& stop);
  Status settle();

  const TracedThread* thread_;
  ForeignAddress at_;
  Scratch scratch_;
  std::optional<ReturningCall> way_back_;  // nothing: it traps
  Registers saved_{};
  SignalMask mask_ = 0;
  std::optional<pid_t> born_;
  bool met_stop_ = false;
  bool active_ = false;
};

/// The process's own reading of a clock, in nanoseconds: it may live in a time namespace.
Result<std::int64_t> read_clock(Injection& injection, const ForeignMemory& memory,
                                const Scratch& scratch, clockid_t clock);

}  // namespace drover
