#include "common/process/traced_thread.h"

#include <elf.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "common/process/memory_map.h"

namespace drover {
namespace {

// Newer than the libc headers of Debian 12, or hidden by them.
constexpr int kGetSignalMask = 0x420a;
constexpr int kSetSignalMask = 0x420b;
constexpr int kGetRseqConfiguration = 0x420f;

// Room for every extended state component known (AMX tiles are 8 KiB of it).
constexpr std::size_t kMaxExtendedState = 64 * 1024;

/// While it lives, SIGCHLD waits to be taken instead of being ignored.
class ChildSignalBlocked {
 public:
  ChildSignalBlocked() {
    sigemptyset(&child_);
    sigaddset(&child_, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child_, &before_);
  }
  ChildSignalBlocked(const ChildSignalBlocked&) = delete;
  ChildSignalBlocked& operator=(const ChildSignalBlocked&) = delete;
  ~ChildSignalBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  const sigset_t& child() const { return child_; }

 private:
  sigset_t child_{};
  sigset_t before_{};
};

std::string with_tid(const char* what, pid_t tid) {
  return std::string(what) + " " + std::to_string(tid);
}

/// The union of some sets of signals in /proc/PID/status.
Result<SignalMask> signals_in_status(pid_t pid, std::initializer_list<const char*> keys) {
  DROVER_TRY(const std::string status, read_proc_file("/proc/" + std::to_string(pid) + "/status"));
  SignalMask signals = 0;
  for (const char* key : keys) {
    const auto at = status.find(key);
    if (at != std::string::npos) signals |= std::strtoull(status.c_str() + at + 8, nullptr, 16);
  }
  return signals;
}

}  // namespace

Stop Stop::from_wait_status(int status) {
  Stop stop;
  stop.wait_status = status;
  if (WIFEXITED(status)) {
    stop.kind = Kind::kExited;
    return stop;
  }
  if (WIFSIGNALED(status)) {
    stop.kind = Kind::kKilled;
    stop.signal = WTERMSIG(status);
    return stop;
  }
  stop.signal = WSTOPSIG(status);
  stop.event = status >> 16;
  if (stop.event == PTRACE_EVENT_STOP) {
    stop.kind = stop.signal == SIGTRAP ? Kind::kInterrupt : Kind::kGroupStop;
  } else if (stop.event != 0) {
    stop.kind = Kind::kEvent;
  } else if (stop.signal == (SIGTRAP | 0x80)) {
    stop.kind = Kind::kSyscall;
  } else {
    stop.kind = Kind::kSignal;
  }
  return stop;
}

Status TracedThread::request(int what, const char* name, std::uintptr_t address,
                             std::uintptr_t data) const {
  if (ptrace(static_cast<__ptrace_request>(what), tid_, reinterpret_cast<void*>(address),
             reinterpret_cast<void*>(data)) < 0) {
    return errno_error(with_tid(name, tid_));
  }
  return {};
}

Result<TracedThread> TracedThread::seize(pid_t tid, unsigned long options) {
  TracedThread thread(tid);
  DROVER_CHECK(thread.request(PTRACE_SEIZE, "seize", 0, options));
  return thread;
}

Status TracedThread::interrupt() const { return request(PTRACE_INTERRUPT, "interrupt", 0, 0); }

Result<Stop> TracedThread::wait() const {
  int status = 0;
  while (waitpid(tid_, &status, __WALL) < 0) {
    if (errno != EINTR) return errno_error(with_tid("wait for", tid_));
  }
  return Stop::from_wait_status(status);
}

// Every stop sends us SIGCHLD, if it is blocked: sigtimedwait is how to wait with a limit. What it
// takes may have told of another thread, for which the caller watches by a descriptor, say.
template <class Poll>
Result<std::optional<Stop>> TracedThread::poll_until(std::chrono::steady_clock::time_point deadline,
                                                     Poll poll) {
  constexpr int kQuickLooks = 3;
  constexpr timespec kPause{0, 10'000'000};
  for (int looks = 0; looks < kQuickLooks; ++looks) {
    DROVER_TRY(const std::optional<Stop> stop, poll());
    if (stop) return stop;
    sched_yield();
  }
  const ChildSignalBlocked blocked;
  for (bool taken = false;;) {
    Result<std::optional<Stop>> stop = poll();
    if (!stop || *stop || std::chrono::steady_clock::now() >= deadline) {
      if (taken) raise(SIGCHLD);
      return stop;
    }
    if (sigtimedwait(&blocked.child(), nullptr, &kPause) == SIGCHLD) taken = true;
  }
}

Result<Stop> TracedThread::wait_for_stop() const {
  DROVER_TRY(const auto stop, wait_within(kStopPatience));
  return stop ? Result<Stop>(*stop) : does_not_stop();
}

Result<Stop> TracedThread::wait_while_held() const {
  const auto deadline = std::chrono::steady_clock::now() + kStopPatience;
  DROVER_TRY(const auto stop, poll_until(deadline, [this] { return poll_while_held(); }));
  return stop ? Result<Stop>(*stop) : does_not_stop();
}

Result<std::optional<Stop>> TracedThread::wait_within(std::chrono::milliseconds patience) const {
  return poll_until(std::chrono::steady_clock::now() + patience, [this] { return poll(); });
}

Error TracedThread::does_not_stop() const {
  return refusal("process " + std::to_string(tid_) +
                 " does not stop: it is in a wait that nothing interrupts");
}

Result<std::optional<Stop>> TracedThread::poll_while_held() const {
  siginfo_t info{};
  const auto id = static_cast<id_t>(tid_);
  if (waitid(P_PID, id, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) != 0) {
    return errno_error(with_tid("wait for", tid_));
  }
  if (info.si_pid == 0) return std::optional<Stop>{};
  if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
    return refusal("the process ended while it was held");
  }
  return poll();
}

Result<std::optional<Stop>> TracedThread::poll() const {
  int status = 0;
  const pid_t got = waitpid(tid_, &status, __WALL | WNOHANG);
  if (got < 0) return errno_error(with_tid("wait for", tid_));
  if (got == 0) return std::optional<Stop>{};
  return std::optional<Stop>{Stop::from_wait_status(status)};
}

Result<Registers> TracedThread::registers() const {
  Registers r{};
  DROVER_CHECK(
      request(PTRACE_GETREGS, "get registers of", 0, reinterpret_cast<std::uintptr_t>(&r)));
  return r;
}

Status TracedThread::set_registers(const Registers& r) const {
  return request(PTRACE_SETREGS, "set registers of", 0, reinterpret_cast<std::uintptr_t>(&r));
}

Result<Bytes> TracedThread::extended_state() const {
  Bytes state(kMaxExtendedState);
  iovec io{state.data(), state.size()};
  DROVER_CHECK(request(PTRACE_GETREGSET, "get extended state of", NT_X86_XSTATE,
                       reinterpret_cast<std::uintptr_t>(&io)));
  state.resize(io.iov_len);
  return state;
}

Status TracedThread::set_extended_state(ByteView state) const {
  iovec io{const_cast<std::byte*>(state.data()), state.size()};
  return request(PTRACE_SETREGSET, "set extended state of", NT_X86_XSTATE,
                 reinterpret_cast<std::uintptr_t>(&io));
}

Result<SignalMask> TracedThread::signal_mask() const {
  SignalMask mask = 0;
  DROVER_CHECK(request(kGetSignalMask, "get signal mask of", sizeof mask,
                       reinterpret_cast<std::uintptr_t>(&mask)));
  return mask;
}

Status TracedThread::set_signal_mask(SignalMask mask) const {
  return request(kSetSignalMask, "set signal mask of", sizeof mask,
                 reinterpret_cast<std::uintptr_t>(&mask));
}

Result<std::vector<siginfo_t>> TracedThread::shared_pending_signals() const {
  return queued_signals(PTRACE_PEEKSIGINFO_SHARED);
}

Result<std::vector<siginfo_t>> TracedThread::queued_signals(std::uint32_t flags) const {
  constexpr int kAtOnce = 16;
  std::vector<siginfo_t> all;
  for (;;) {
    std::array<siginfo_t, kAtOnce> some{};
    __ptrace_peeksiginfo_args from{all.size(), flags, kAtOnce};
    const long n = ptrace(PTRACE_PEEKSIGINFO, tid_, &from, some.data());
    if (n < 0) return errno_error(with_tid("look at the signals of", tid_));
    all.insert(all.end(), some.begin(), some.begin() + n);
    if (n < kAtOnce) return all;
  }
}

Result<siginfo_t> TracedThread::signal_info() const {
  siginfo_t info{};
  DROVER_CHECK(request(PTRACE_GETSIGINFO, "get signal information of", 0,
                       reinterpret_cast<std::uintptr_t>(&info)));
  return info;
}

Status TracedThread::set_signal_info(const siginfo_t& info) const {
  return request(PTRACE_SETSIGINFO, "set signal information of", 0,
                 reinterpret_cast<std::uintptr_t>(&info));
}

Result<RseqRegistration> TracedThread::rseq() const {
  RseqRegistration r;
  DROVER_CHECK(request(kGetRseqConfiguration, "get rseq registration of", sizeof r,
                       reinterpret_cast<std::uintptr_t>(&r)));
  return r;
}

Result<unsigned long> TracedThread::event_message() const {
  unsigned long message = 0;
  DROVER_CHECK(request(PTRACE_GETEVENTMSG, "PTRACE_GETEVENTMSG", 0,
                       reinterpret_cast<std::uintptr_t>(&message)));
  return message;
}

Status TracedThread::set_options(unsigned long options) const {
  return request(PTRACE_SETOPTIONS, "set ptrace options of", 0, options);
}

Status TracedThread::resume(int signal) const {
  return request(PTRACE_CONT, "resume", 0, static_cast<std::uintptr_t>(signal));
}

Status TracedThread::resume_to_syscall(int signal) const {
  return request(PTRACE_SYSCALL, "resume", 0, static_cast<std::uintptr_t>(signal));
}

Result<std::optional<Stop>> TracedThread::enter_call() const {
  DROVER_TRY(const SignalMask mask, signal_mask());
  DROVER_CHECK(set_signal_mask(kAllSignals));
  DROVER_CHECK(resume_to_syscall());
  DROVER_TRY(const Stop stop, wait_for_stop());
  if (!stop.gone()) DROVER_CHECK(set_signal_mask(mask));
  if (stop.kind == Stop::Kind::kSyscall) return std::optional<Stop>();
  return std::optional(stop);
}

Result<std::optional<Stop>> TracedThread::go_on_in_call() const {
  DROVER_TRY(const Registers r, registers());
  if (is_in_call(r)) {
    DROVER_TRY(const auto other_stop, enter_call());
    if (other_stop) return other_stop;
  }
  DROVER_CHECK(resume());
  return std::optional<Stop>();
}

Status TracedThread::step(int signal) const {
  return request(PTRACE_SINGLESTEP, "step", 0, static_cast<std::uintptr_t>(signal));
}

Status TracedThread::listen() const { return request(PTRACE_LISTEN, "listen to", 0, 0); }

Status TracedThread::detach(int signal) {
  return request(PTRACE_DETACH, "detach from", 0, static_cast<std::uintptr_t>(signal));
}

// Detaching wakes the thread as a signal does, which ends a call that is entered already: so that
// is done only if a signal ends it anyway.
Status TracedThread::detach_in_call() {
  DROVER_TRY(const Registers r, registers());
  DROVER_TRY(const SignalMask mask, blocked_signals(tid_));
  DROVER_TRY(const SignalMask pending, pending_signals(tid_));
  DROVER_TRY(const SignalMask caught, caught_signals(tid_));
  if (!is_in_call(r) || (pending & ~mask & caught) == 0) return detach();
  DROVER_TRY(const auto other_stop, enter_call());
  if (!other_stop) return detach();
  if (other_stop->gone()) return {};
  return detach(other_stop->kind == Stop::Kind::kSignal ? other_stop->signal : 0);
}

Result<SignalMask> pending_signals(pid_t pid) {
  return signals_in_status(pid, {"\nSigPnd:", "\nShdPnd:"});
}

Result<SignalMask> blocked_signals(pid_t pid) { return signals_in_status(pid, {"\nSigBlk:"}); }

Result<SignalMask> caught_signals(pid_t pid) { return signals_in_status(pid, {"\nSigCgt:"}); }

Result<bool> fault_waits(pid_t tid) {
  constexpr SignalMask kFaults = signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) |
                                 signal_bit(SIGTRAP) | signal_bit(SIGFPE) | signal_bit(SIGSYS);
  DROVER_TRY(const SignalMask pending, pending_signals(tid));
  if ((pending & kFaults) == 0) return false;
  DROVER_TRY(const SignalMask mask, blocked_signals(tid));
  return (pending & kFaults & ~mask) != 0;
}

bool stops_by_default(pid_t pid, int signal) {
  if (signal == SIGSTOP) return true;
  if (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU) return false;
  const auto own_action = signals_in_status(pid, {"\nSigIgn:", "\nSigCgt:"});
  return own_action && (*own_action & signal_bit(signal)) == 0;
}

}  // namespace drover
