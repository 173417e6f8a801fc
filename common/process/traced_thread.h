// One thread under ptrace(2), seized, never attached.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>

#include "common/foreign_address.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

using Registers = user_regs_struct;
using SignalMask = std::uint64_t;
inline constexpr SignalMask kAllSignals = ~SignalMask{0};

constexpr SignalMask signal_bit(int signal) { return SignalMask{1} << (signal - 1); }

/// A value that the kernel keeps to itself: the result of a call that is to be restarted
/// (ERESTARTSYS .. ERESTART_RESTARTBLOCK, include/linux/errno.h).
inline constexpr std::int64_t kErestartsys = -512;
inline constexpr std::int64_t kErestartnointr = -513;
inline constexpr std::int64_t kErestartnohand = -514;
inline constexpr std::int64_t kErestartRestartblock = -516;
constexpr bool is_restart(std::int64_t result) { return result <= -512 && result >= -516; }

/// Whether a stopped thread is in a system call that it goes on with when it runs: a signal that
/// comes first would end it, or not, as its restart code says.
inline bool is_in_call(const Registers& registers) {
  const auto result = static_cast<std::int64_t>(registers.rax);
  return static_cast<std::int64_t>(registers.orig_rax) >= 0 && is_restart(result) &&
         result != kErestartnointr;
}

/// Why a traced thread stopped, as wait4(2) with ptrace tells it.
struct Stop {
  enum class Kind {
    kSignal,     ///< signal-delivery-stop: `signal` is about to be delivered
    kInterrupt,  ///< PTRACE_EVENT_STOP by PTRACE_INTERRUPT, or a fresh child
    kGroupStop,  ///< PTRACE_EVENT_STOP by `signal`
    kSyscall,    ///< syscall-entry- or syscall-exit-stop
    kEvent,      ///< another PTRACE_EVENT_: `event`
    kExited,     ///< `wait_status` says how
    kKilled,
  };
  Kind kind = Kind::kInterrupt;
  int signal = 0;
  int event = 0;
  int wait_status = 0;

  bool gone() const { return kind == Kind::kExited || kind == Kind::kKilled; }
  /// Not by anything of the program's: it goes on with whatever it was doing.
  bool by_event() const { return kind == Kind::kInterrupt || kind == Kind::kGroupStop; }
  static Stop from_wait_status(int status);
};

/// What rseq(2) registered for a thread (PTRACE_GET_RSEQ_CONFIGURATION).
struct RseqRegistration {
  std::uint64_t pointer = 0;
  std::uint32_t size = 0;
  std::uint32_t signature = 0;
  std::uint32_t flags = 0;
  std::uint32_t pad = 0;
};

/// How long a thread may take to stop. Less than a body's lease, which must not end meanwhile.
inline constexpr std::chrono::seconds kStopPatience{5};

/// A thread that this thread of ours traces. It stays traced until `detach`, its end, or ours.
class TracedThread {
 public:
  TracedThread() = default;

  /// PTRACE_SEIZE: the thread goes on running. `options` are PTRACE_O_ bits.
  /// A thread that one of ours has made under PTRACE_O_TRACECLONE.
  static TracedThread born_traced(pid_t tid) { return TracedThread(tid); }
  static Result<TracedThread> seize(pid_t tid, unsigned long options);

  pid_t tid() const { return tid_; }

  /// Asks a running thread to stop. The stop is reported by `wait` or `poll`.
  Status interrupt() const;
  Result<Stop> wait() const;
  /// The same, but an error if there is no stop within kStopPatience: a thread in the kernel that
  /// waits for a device or a server, say, hears of nothing but SIGKILL, and maybe not of that.
  /// What it was asked for is still to come.
  Result<Stop> wait_for_stop() const;
  /// The same, and the thread's end is an error too: whoever waits next is told how it was.
  Result<Stop> wait_while_held() const;
  /// A stop within that time, if there is one.
  Result<std::optional<Stop>> wait_within(std::chrono::milliseconds patience) const;
  /// A stop, if there is one.
  Result<std::optional<Stop>> poll() const;

  /// The following need the thread stopped.
  Result<Registers> registers() const;
  Status set_registers(const Registers& registers) const;
  /// The whole extended state, in the layout of NT_X86_XSTATE.
  Result<Bytes> extended_state() const;
  Status set_extended_state(ByteView state) const;
  Result<SignalMask> signal_mask() const;
  Status set_signal_mask(SignalMask mask) const;
  /// The signals that wait for this thread alone, oldest first, without taking them.
  Result<std::vector<siginfo_t>> own_pending_signals() const { return queued_signals(0); }
  /// Those that wait for the process.
  Result<std::vector<siginfo_t>> shared_pending_signals() const;
  Result<siginfo_t> signal_info() const;
  /// What goes with a stop by a PTRACE_EVENT_: the new thread's id, of one that clones.
  Result<unsigned long> event_message() const;
  Status set_signal_info(const siginfo_t& info) const;
  Result<RseqRegistration> rseq() const;
  Status set_options(unsigned long options) const;

  /// Lets it run, delivering `signal` if not 0.
  Status resume(int signal = 0) const;
  /// Lets it run to the next syscall stop, delivering `signal` if not 0.
  Status resume_to_syscall(int signal = 0) const;
  Status step(int signal = 0) const;
  /// Lets it run to the beginning of the call that it is about to make, past signals that wait:
  /// they find it in the call, and end that only if it does not end by itself. A value: another
  /// stop came instead.
  Result<std::optional<Stop>> enter_call() const;
  /// Lets it run, through `enter_call` if it is in a call that it goes on with. A value: another
  /// stop came, and it does not run.
  Result<std::optional<Stop>> go_on_in_call() const;
  /// Leaves a group-stopped thread stopped while still hearing of its continuation.
  Status listen() const;
  Status detach(int signal = 0);
  /// The same, but signals that wait find it in the call that it goes on with, if it is in one.
  Status detach_in_call();

 private:
  explicit TracedThread(pid_t tid) : tid_(tid) {}
  Result<std::optional<Stop>> poll_while_held() const;
  template <class Poll>
  static Result<std::optional<Stop>> poll_until(std::chrono::steady_clock::time_point deadline,
                                                Poll poll);
  Error does_not_stop() const;
  Result<std::vector<siginfo_t>> queued_signals(std::uint32_t flags) const;
  Status request(int what, const char* name, std::uintptr_t address, std::uintptr_t data) const;

  pid_t tid_ = -1;
};

/// The signals that wait for a process of one thread (/proc/PID/status).
Result<SignalMask> pending_signals(pid_t pid);
/// Those that it blocks at the moment: in a call such as ppoll(2), by the mask given to that.
Result<SignalMask> blocked_signals(pid_t pid);
/// Those that the process has a handler for.
Result<SignalMask> caught_signals(pid_t pid);

/// Whether a fault of the thread's own is about to be delivered. The kernel delivers it together
/// with the next one even if it is blocked: a thread is not to be borrowed before that.
Result<bool> fault_waits(pid_t tid);

/// Whether a signal would stop the process, by what the kernel knows of its actions. Not if that
/// cannot be known: it has ended.
bool stops_by_default(pid_t pid, int signal);

}  // namespace drover
