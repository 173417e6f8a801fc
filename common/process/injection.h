// System calls executed by another thread on our behalf.
#pragma once

#include <array>
#include <ctime>

#include "common/process/foreign_memory.h"
#include "common/process/scratch.h"
#include "common/process/traced_thread.h"

namespace drover {

/// Borrows a stopped thread: while this object lives, `call` makes the thread execute system
/// calls; when it ends, registers, extended state and signal mask are again what they were
/// and the thread is stopped as before. Signals stay pending meanwhile; a SIGSTOP, which cannot
/// be blocked, is sent again at the end.
class Injection {
 public:
  /// How a call is driven.
  enum class Site {
    kVdso,       ///< by the syscall instruction of the thread's vDSO: needs no scratch
    kReturning,  ///< by the scratch, and the thread goes on by itself if we die
    kTrapping,   ///< by the scratch, fastest: only when the thread is to die with us
  };

  /// `thread` is stopped, and outlives this. For kVdso `site_address` is the instruction.
  static Result<Injection> begin(const TracedThread& thread, Site site, ForeignAddress site_address,
                                 ForeignAddress return_frame = {});
  static Result<Injection> begin(const TracedThread& thread, Site site, const Scratch& scratch);

  Injection(Injection&& other) noexcept;
  Injection& operator=(Injection&&) = delete;
  ~Injection();

  /// Executes one call. The value is what the kernel returned: a result or a negative errno.
  /// An error means that the thread is gone or out of control.
  Result<std::int64_t> raw(long number, std::array<std::uint64_t, 6> arguments = {});
  /// The same, with a failed call as an error named `what`.
  Result<std::uint64_t> call(const char* what, long number,
                             std::array<std::uint64_t, 6> arguments = {});

  /// Gives the thread back now, and says if that failed.
  Status end();

 private:
  Injection(const TracedThread& thread, Site site, ForeignAddress at, ForeignAddress frame)
      : thread_(&thread), site_(site), at_(at), frame_(frame) {}
  Result<std::int64_t> run_once(const Registers& start);
  Status to_next_syscall_stop();
  Status settle();
  Status stop_again() const;

  const TracedThread* thread_;
  Site site_;
  ForeignAddress at_;
  ForeignAddress frame_;
  Registers saved_{};
  SignalMask mask_ = 0;
  bool stop_held_ = false;
  bool active_ = false;
};

/// The process's own reading of a clock, in nanoseconds: it may live in a time namespace.
Result<std::int64_t> read_clock(Injection& injection, const ForeignMemory& memory,
                                const Scratch& scratch, clockid_t clock);

/// The address of a `syscall` instruction in the process's vDSO.
Result<ForeignAddress> find_vdso_syscall(const ForeignMemory& memory, ForeignRange vdso);

}  // namespace drover
