#include "migrate/returned_signals.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/process/queued_signal.h"

namespace drover {
namespace {

constexpr SignalMask kStopSignals =
    signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);
constexpr int kFirstRealtime = 32;

/// As far as the kernel keeps what is sent (struct kernel_siginfo).
bool same_signal(const siginfo_t& a, const siginfo_t& b) {
  constexpr std::size_t kKept = 48;
  return std::memcmp(&a, &b, kKept) == 0;
}

}  // namespace

void add_untold(ProcessState& state, const HomeServer& server) {
  for (ThreadState& thread : state.threads) {
    for (const siginfo_t& info : server.untold(thread.tid)) thread.undelivered.push_back(info);
    if (!server.stop_begun()) continue;
    std::erase_if(thread.undelivered,
                  [](const siginfo_t& info) { return info.si_signo == SIGCONT; });
  }
}

// What was taken from the thread came before what waits for it now: the younger ones step back.
// Realtime signals first: of all only they may find no room in the queue, so that whatever has been
// sent by then can be told from the others and taken back.
Status ReturnedSignals::send(Injection& injection, const std::vector<siginfo_t>& to_process,
                             const std::vector<siginfo_t>& to_thread) {
  std::vector<Sent> all;
  for (const siginfo_t& info : to_process) all.push_back({info, false});
  for (const siginfo_t& info : to_thread) all.push_back({info, !alone_});
  for (const Sent& signal : all) kinds_ |= signal_bit(signal.info.si_signo);
  if (kinds_ == 0) return {};
  // To send a stop takes a SIGCONT back.
  if ((kinds_ & kStopSignals) != 0) kinds_ |= signal_bit(SIGCONT);
  DROVER_TRY(waiting_, take_out(injection));
  all.insert(all.end(), waiting_.begin(), waiting_.end());
  std::stable_partition(all.begin(), all.end(),
                        [](const Sent& signal) { return signal.info.si_signo >= kFirstRealtime; });
  for (const Sent& signal : all) {
    Status sent = send_one(injection, signal);
    if (sent) {
      sent_.push_back(signal);
      continue;
    }
    DROVER_CHECK(take_back(injection));
    return sent;
  }
  return {};
}

// The thread has again what waited for it, and what has come since.
Status ReturnedSignals::take_back(Injection& injection) {
  if (kinds_ == 0) return {};
  DROVER_TRY(std::vector<Sent> now, take_out(injection));
  for (const Sent& signal : sent_) {
    const auto found = std::ranges::find_if(now, [&](const Sent& other) {
      return other.to_thread == signal.to_thread && same_signal(signal.info, other.info);
    });
    if (found != now.end()) now.erase(found);
  }
  sent_.clear();
  waiting_.insert(waiting_.end(), now.begin(), now.end());
  for (const Sent& signal : waiting_) DROVER_CHECK(send_one(injection, signal));
  waiting_.clear();
  return {};
}

/// The signals of our kinds that wait for the thread, which has them no more; of the leading thread
/// also those that wait for the process. The kernel gives a thread its own first. As many as there
/// are now: a timer may send again what is taken from it, faster than we take it.
Result<std::vector<ReturnedSignals::Sent>> ReturnedSignals::take_out(Injection& injection) const {
  using Counts = std::array<int, kSignalCount + 1>;
  const auto count = [](const std::vector<siginfo_t>& signals, Counts& counts) {
    for (const siginfo_t& info : signals) ++counts.at(static_cast<std::size_t>(info.si_signo));
  };
  Counts own{}, all{};
  if (!alone_) {
    DROVER_TRY(const auto pending, thread_->thread().own_pending_signals());
    count(pending, own);
  }
  if (is_leader()) {
    DROVER_TRY(const auto pending, pending_here());
    count(pending, all);
  } else {
    all = own;
  }
  std::vector<Sent> taken;
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if ((kinds_ & signal_bit(signal)) == 0) continue;
    const auto number = static_cast<std::size_t>(signal);
    for (int left = all.at(number); left > 0; --left) {
      siginfo_t info{};
      DROVER_TRY(const bool was_there, take_one(injection, signal_bit(signal), info));
      if (was_there) taken.push_back({info, own.at(number)-- > 0});
    }
  }
  return taken;
}

/// All that waits for the leading thread or the process. What the kernel could not queue is known
/// by its number only.
Result<std::vector<siginfo_t>> ReturnedSignals::pending_here() const {
  DROVER_TRY(auto all, thread_->thread().own_pending_signals());
  DROVER_TRY(const auto shared, thread_->thread().shared_pending_signals());
  all.insert(all.end(), shared.begin(), shared.end());
  DROVER_TRY(SignalMask unqueued, pending_signals(thread_->tid()));
  for (const siginfo_t& info : all) unqueued &= ~signal_bit(info.si_signo);
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if ((unqueued & signal_bit(signal)) == 0) continue;
    siginfo_t info{};
    info.si_signo = signal;
    all.push_back(info);
  }
  return all;
}

Result<bool> ReturnedSignals::take_one(Injection& injection, SignalMask kinds,
                                       siginfo_t& info) const {
  struct {
    SignalMask set;
    timespec at_once;
    siginfo_t info;
  } wait{kinds, {0, 0}, {}};
  const ForeignAddress at = thread_->scratch().data();
  const ForeignAddress info_at = at + offsetof(decltype(wait), info);
  DROVER_CHECK(memory_->write_record(at, wait));
  DROVER_TRY(const std::int64_t signal,
             injection.raw(SYS_rt_sigtimedwait,
                           {at.value(), info_at.value(),
                            (at + offsetof(decltype(wait), at_once)).value(), sizeof kinds}));
  if (signal <= 0) return false;
  DROVER_TRY(info, memory_->read_record<siginfo_t>(info_at));
  return true;
}

Status ReturnedSignals::send_one(Injection& injection, const Sent& signal) const {
  return queue_signal(injection, *memory_, thread_->tid(), signal.to_thread, signal.info,
                      thread_->scratch().data());
}

}  // namespace drover
