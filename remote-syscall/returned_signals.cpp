#include "remote-syscall/returned_signals.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "remote-syscall/body_messages.h"

namespace drover {
namespace {

constexpr SignalMask kStopSignals =
    signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);
constexpr int kFirstRealtime = 32;
constexpr std::size_t kMostInARow = 1024;

/// As far as the kernel keeps what is sent (struct kernel_siginfo).
bool same_signal(const siginfo_t& a, const siginfo_t& b) {
  constexpr std::size_t kKept = 48;
  return std::memcmp(&a, &b, kKept) == 0;
}

/// Part of a scratch: for the table of calls, and for as many signals and what else they need. What
/// stood there is put back at the end.
class BorrowedRoom {
 public:
  static Result<BorrowedRoom> of(const HollowThread& thread, const ForeignMemory& memory,
                                 std::size_t signals) {
    BorrowedRoom room(thread, memory, signals);
    DROVER_CHECK(memory.read(room.start_, room.before_));
    return room;
  }
  Status give_back() const { return memory_->write(start_, before_); }

  /// Where a sigtimedwait(2) finds its set and its timeout, which is none.
  ForeignAddress set() const { return start_ + table_; }
  ForeignAddress at_once() const { return set() + sizeof(SignalMask); }
  ForeignAddress info(std::size_t i) const {
    return at_once() + sizeof(timespec) + i * sizeof(siginfo_t);
  }

 private:
  BorrowedRoom(const HollowThread& thread, const ForeignMemory& memory, std::size_t signals)
      : memory_(&memory), start_(thread.scratch().table()), table_((signals + 1) * kCallRow) {
    before_.resize(info(signals) - start_);
  }

  const ForeignMemory* memory_;
  ForeignAddress start_;
  std::size_t table_;
  Bytes before_;
};

}  // namespace

// Realtime signals first: of all only they may find no room in the queue, so that whatever has been
// sent by then can be told from the others and taken back.
Status ReturnedSignals::send(Injection& injection, const std::vector<siginfo_t>& to_process,
                             const std::vector<siginfo_t>& to_thread) {
  for (const siginfo_t& info : to_process) add(info, false);
  for (const siginfo_t& info : to_thread) add(info, !alone_);
  std::stable_partition(kinds_.begin(), kinds_.end(),
                        [](const Kind& kind) { return kind.realtime; });
  for (Kind& kind : kinds_) {
    if (Status sent = send_first(injection, kind); !sent) {
      DROVER_CHECK(take_back(injection));
      return sent;
    }
  }
  return {};
}

Status ReturnedSignals::take_back(Injection& injection) {
  for (Kind& kind : kinds_) {
    DROVER_CHECK(take_out(injection, kind));
    DROVER_CHECK(queue(injection, kind.others));
  }
  kinds_.clear();
  return {};
}

void ReturnedSignals::add(const siginfo_t& info, bool to_thread) {
  Kind& kind = kind_of(info.si_signo);
  kind.returned.signals.push_back({info, to_thread});
  if (!kind.realtime) kind.signals |= signal_bit(info.si_signo);
  // To send a stop takes a SIGCONT back.
  if ((kind.signals & kStopSignals) != 0) kind.signals |= signal_bit(SIGCONT);
}

ReturnedSignals::Kind& ReturnedSignals::kind_of(int signal) {
  const bool realtime = signal >= kFirstRealtime;
  for (Kind& kind : kinds_) {
    if (kind.realtime == realtime && (!realtime || kind.signals == signal_bit(signal))) return kind;
  }
  return kinds_.emplace_back(Kind{realtime ? signal_bit(signal) : 0, realtime, {}, {}});
}

// What was taken from the thread came before what waits for it now: the younger ones step back. One
// that comes just then may come before: then all is done again.
Status ReturnedSignals::send_first(Injection& injection, Kind& kind) const {
  constexpr int kMostTries = 1000;
  for (int i = 0; i < kMostTries; ++i) {
    DROVER_CHECK(take_out(injection, kind));
    DROVER_CHECK(drop_taken_back(injection, kind.returned));
    DROVER_CHECK(queue(injection, kind.returned));
    DROVER_CHECK(queue(injection, kind.others));
    DROVER_TRY(const bool in_order, come_first(kind));
    if (in_order) break;
  }
  return {};
}

/// A stop that has come since has taken back a SIGCONT among them; and to send that would end the
/// stop. We look at the last moment, as there is no way to do both at once. One that has begun in
/// another thread is met when this one runs.
Status ReturnedSignals::drop_taken_back(Injection& injection, Row& row) const {
  const auto continues = [](const Sent& signal) { return signal.info.si_signo == SIGCONT; };
  if (std::ranges::none_of(row.signals, continues)) return {};
  DROVER_CHECK(injection.raw(SYS_gettid));
  DROVER_TRY(const SignalMask pending, pending_signals(thread_->tid()));
  if (injection.met_stop() || (pending & kStopSignals) != 0) std::erase_if(row.signals, continues);
  return {};
}

/// Of that kind nothing waits for the thread any more. `others` has what is not ours.
Status ReturnedSignals::take_out(Injection& injection, Kind& kind) const {
  DROVER_TRY(std::vector<Sent> taken, take(injection, kind));
  keep_found(kind, kind.returned, taken);
  keep_found(kind, kind.others, taken);
  auto& others = kind.others.signals;
  others.insert(others.end(), taken.begin(), taken.end());
  return {};
}

/// Takes from the thread what waits for it. The kernel gives a thread its own first. No more than
/// there are now: a timer may send again what is taken from it, faster than we take it.
Result<std::vector<ReturnedSignals::Sent>> ReturnedSignals::take(Injection& injection,
                                                                 const Kind& kind) const {
  DROVER_TRY(auto waiting, pending(kind));
  const std::size_t all = waiting.size();
  std::vector<Sent> taken;
  for (std::size_t from = 0; from < all; from += kMostInARow) {
    const std::size_t n = std::min(kMostInARow, all - from);
    DROVER_TRY(const auto room, BorrowedRoom::of(*thread_, *memory_, n));
    DROVER_CHECK(memory_->write_record(room.set(), kind.signals));
    DROVER_CHECK(memory_->write_record(room.at_once(), timespec{}));
    std::vector<InjectedCall> calls;
    for (std::size_t i = 0; i < n; ++i) {
      calls.push_back({"rt_sigtimedwait",
                       SYS_rt_sigtimedwait,
                       {room.set().value(), room.info(i).value(), room.at_once().value(),
                        sizeof kind.signals}});
    }
    DROVER_TRY(const CallsMade made, injection.call_while_good(*memory_, calls));
    std::vector<siginfo_t> infos(made.good);
    DROVER_CHECK(memory_->read(room.info(0), std::as_writable_bytes(std::span(infos))));
    DROVER_CHECK(room.give_back());
    for (const siginfo_t& info : infos) {
      const auto same = [&](const Sent& other) { return same_signal(info, other.info); };
      const auto found = std::ranges::find_if(waiting, same);
      taken.push_back({info, found != waiting.end() && found->to_thread});
      if (found != waiting.end()) waiting.erase(found);
    }
    if (made.good < n) break;
  }
  return taken;
}

/// Of what was queued, another thread may have taken some of the process's: that is told already.
/// Of a signal that is not queued twice, the one may only have become one with another.
void ReturnedSignals::keep_found(const Kind& kind, Row& row, std::vector<Sent>& taken) {
  std::vector<Sent> kept;
  for (std::size_t i = 0; i < row.signals.size(); ++i) {
    const Sent& signal = row.signals[i];
    if (i < row.queued) {
      const auto found = std::ranges::find_if(taken, [&](const Sent& other) {
        return other.to_thread == signal.to_thread && same_signal(signal.info, other.info);
      });
      if (found != taken.end()) {
        taken.erase(found);
      } else if (kind.realtime) {
        continue;
      }
    }
    kept.push_back(signal);
  }
  row = {std::move(kept), 0};
}

/// What waits of that kind for the thread and, if it is the leading one, for the process. What the
/// kernel could not queue is known by its number only.
Result<std::vector<ReturnedSignals::Sent>> ReturnedSignals::pending(const Kind& kind) const {
  std::vector<Sent> all;
  SignalMask unqueued = 0;
  const auto add = [&](const std::vector<siginfo_t>& infos, bool to_thread) {
    for (const siginfo_t& info : infos) {
      unqueued &= ~signal_bit(info.si_signo);
      if ((kind.signals & signal_bit(info.si_signo)) != 0) all.push_back({info, to_thread});
    }
  };
  if (is_leader()) {
    DROVER_TRY(unqueued, pending_signals(thread_->tid()));
  }
  DROVER_TRY(const auto own, thread_->thread().own_pending_signals());
  add(own, !alone_);
  if (is_leader()) {
    DROVER_TRY(const auto shared, thread_->thread().shared_pending_signals());
    add(shared, false);
  }
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    if ((unqueued & kind.signals & signal_bit(signal)) == 0) continue;
    siginfo_t info{};
    info.si_signo = signal;
    all.push_back({info, false});
  }
  return all;
}

Status ReturnedSignals::queue(Injection& injection, Row& row) const {
  const std::vector<Sent>& signals = row.signals;
  const auto process = static_cast<std::uint64_t>(memory_->pid());
  const auto thread = static_cast<std::uint64_t>(thread_->tid());
  for (std::size_t from = 0; from < signals.size(); from += kMostInARow) {
    const auto some =
        std::span(signals).subspan(from, std::min(kMostInARow, signals.size() - from));
    DROVER_TRY(const auto room, BorrowedRoom::of(*thread_, *memory_, some.size()));
    std::vector<InjectedCall> calls;
    std::vector<siginfo_t> infos;
    for (std::size_t i = 0; i < some.size(); ++i) {
      infos.push_back(some[i].info);
      const auto number = static_cast<std::uint64_t>(some[i].info.si_signo);
      const std::uint64_t at = room.info(i).value();
      calls.push_back(
          some[i].to_thread
              ? InjectedCall{"rt_tgsigqueueinfo",
                             SYS_rt_tgsigqueueinfo,
                             {process, thread, number, at}}
              : InjectedCall{"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {process, number, at}});
    }
    DROVER_CHECK(memory_->write(room.info(0), std::as_bytes(std::span(infos))));
    DROVER_TRY(const CallsMade made, injection.call_while_good(*memory_, calls));
    row.queued += made.good;
    DROVER_CHECK(room.give_back());
    DROVER_CHECK(made.failure);
  }
  return {};
}

/// No other waits before one of those returned. Of the process's, another thread may have taken
/// some.
Result<bool> ReturnedSignals::come_first(const Kind& kind) const {
  if (!kind.realtime) return true;
  DROVER_TRY(const auto waiting, pending(kind));
  const auto& returned = kind.returned.signals;
  for (const bool to_thread : {true, false}) {
    auto next = returned.begin();
    bool other_came = false;
    for (const Sent& signal : waiting) {
      if (signal.to_thread != to_thread) continue;
      const auto found = std::find_if(next, returned.end(), [&](const Sent& one) {
        return one.to_thread == to_thread && same_signal(one.info, signal.info);
      });
      if (found == returned.end()) {
        other_came = true;
      } else if (other_came) {
        return false;
      } else {
        next = found + 1;
      }
    }
  }
  return true;
}

}  // namespace drover
