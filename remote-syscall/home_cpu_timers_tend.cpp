// When timers by CPU time of a process that is away expire, and who sends their signals.
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <tuple>

#include "remote-syscall/body_messages.h"
#include "remote-syscall/home_cpu_timers.h"
#include "remote-syscall/home_thread.h"

namespace drover {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNever = CpuWatchMessage::kNever;
/// What a guest does not know of its watch: so large a part of what is left.
constexpr std::uint64_t kUnknownPart = 16;
/// For a handler to come to its end: ticks of the timer's clock.
constexpr std::uint64_t kPatience = 10;

/// A call of ours whose one argument that is a pointer leads to `record`.
template <class T>
CallRequest call_with(int number, CallArguments arguments, std::uint32_t pointer, const T& record) {
  CallRequest request;
  request.number = number;
  request.arguments = arguments;
  request.relocations = {{Relocation::kArgument + pointer, 0}};
  request.layout_size = sizeof record;
  const auto bytes = std::as_bytes(std::span(&record, 1));
  request.data.assign(bytes.begin(), bytes.end());
  return request;
}

bool blocks(const HomeThread& thread, int signal) {
  const auto mask = blocked_signals(thread.tid());
  return !mask || (*mask & signal_bit(signal)) != 0;
}

/// The thread that is to make P send itself a signal: the kernel gives it to the one that sends it,
/// if that takes it. `user`, if it takes it: at home it would have been found using the CPU, so
/// that a call which it is in by now is one that the signal comes upon. If it still handles the
/// last one, which at home it would have done long since, it is waited for, when `patient`. Nobody:
/// nobody can, yet.
HomeThread* sender(std::list<HomeThread>& threads, int signal, std::int32_t user, bool patient) {
  HomeThread* first = nullptr;
  HomeThread* taking = nullptr;
  for (HomeThread& thread : threads) {
    const bool takes = !blocks(thread, signal);
    if (thread.tid() == user && takes) return &thread;
    if (thread.tid() == user && patient && thread.handles(signal)) return nullptr;
    if (!thread.idle()) continue;
    if (!first) first = &thread;
    if (!taking && takes) taking = &thread;
  }
  return taking ? taking : first;
}

/// For a signal to that one thread: anybody sends it.
HomeThread* any_sender(std::list<HomeThread>& threads, std::int32_t target) {
  const auto idle = std::ranges::find_if(threads, &HomeThread::idle);
  if (idle != threads.end()) return &*idle;
  const auto itself = std::ranges::find(threads, target, &HomeThread::tid);
  return itself == threads.end() ? nullptr : &*itself;
}

/// Whether it was made: not if the thread is in a call, which is told to stop, or a signal came.
Result<std::optional<std::int64_t>> make(HomeThread* thread, CallRequest request) {
  if (!thread) return std::optional<std::int64_t>();
  if (thread->idle()) return thread->make_own_call(request);
  DROVER_CHECK(thread->disturb());
  return std::optional<std::int64_t>();
}

}  // namespace

bool HomeCpuTimers::any() const {
  return !posix_.empty() || limit_.soft != Limit::kNone ||
         std::ranges::any_of(itimers_, [](const Itimer& one) { return one.timer.armed(); });
}

Status HomeCpuTimers::tend(std::list<HomeThread>& threads, SecureChannel& channel) {
  if (!any() && !alarm_ && said_ && !waited_for_) return {};
  Now now(*this);
  DROVER_CHECK(notice_taken(threads, now));
  for (Itimer& timer : itimers_) DROVER_CHECK(fire_itimer(threads, now, timer));
  for (auto& [id, timer] : posix_) DROVER_CHECK(fire_posix(threads, now, id, timer));
  DROVER_CHECK(tell_of_limit(threads));
  DROVER_CHECK(mind_limit(threads, now));

  CpuWatchMessage wanted = this->wanted(now);
  DROVER_CHECK(set_alarm(now));
  if (!is_news(wanted)) return {};
  DROVER_CHECK(channel.send(type(FrameType::kCpuWatch), wanted.encode()));
  waited_for_ = wanted != CpuWatchMessage{};
  said_ = std::move(wanted);
  return {};
}

// A signal that was pending may have been taken by a call of which we do not know: what expires
// from then on is another one. As long as there is any of that number, it is taken for ours.
Status HomeCpuTimers::notice_taken(std::list<HomeThread>& threads, Now& now) {
  for (auto& [id, timer] : posix_) {
    const std::uint64_t clock = now.both(timer.clock);
    if (!timer.timer.pending() || clock < timer.look_at) continue;
    const bool to_thread = (timer.notify & SIGEV_THREAD_ID) != 0;
    const auto pending = pending_signals(to_thread ? timer.target : pid_);
    timer.look_at = timer.timer.next(clock).value_or(kNever);
    const bool there = pending && (*pending & signal_bit(timer.signal)) != 0;
    if (!there) static_cast<void>(taken(SI_TIMER, static_cast<std::uint64_t>(id), 0));
  }
  return let_rest(threads);
}

// P's kernel has set it anew when its signal was taken.
Status HomeCpuTimers::let_rest(std::list<HomeThread>& threads) {
  for (auto& [id, timer] : posix_) {
    if (!timer.to_rest) continue;
    const auto idle = std::ranges::find_if(threads, &HomeThread::idle);
    if (idle == threads.end()) continue;
    DROVER_TRY(const auto result,
               make(&*idle, call_with(SYS_timer_settime, {static_cast<std::uint64_t>(id), 0, 0, 0},
                                      2, itimerspec{})));
    timer.to_rest = !result;
  }
  return {};
}

Status HomeCpuTimers::fire_itimer(std::list<HomeThread>& threads, Now& now, Itimer& timer) {
  const std::uint64_t clock = now.both({timer.clock, 0});
  if (!timer.timer.armed() || clock < std::max(timer.timer.expires(), timer.quiet_until)) return {};
  const bool patient = clock < timer.timer.expires() + kPatience * cpu_tick();
  DROVER_TRY(const bool sent, send_to_process(threads, timer.signal, patient));
  if (!sent) return {};
  timer.timer.fired();
  timer.quiet_until = clock + cpu_tick();
  return {};
}

// As the kernel's own (SEND_SIG_PRIV): who sends it to itself by its own id sends it to its
// process.
Result<bool> HomeCpuTimers::send_to_process(std::list<HomeThread>& threads, int signal,
                                            bool patient) const {
  HomeThread* const thread = sender(threads, signal, user_, patient);
  if (!thread) return false;
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_KERNEL;
  DROVER_TRY(const auto result, make(thread, call_with(SYS_rt_sigqueueinfo,
                                                       {static_cast<std::uint64_t>(thread->tid()),
                                                        static_cast<std::uint64_t>(signal), 0},
                                                       2, info)));
  return result.has_value();
}

// P's own timer, set so that it has expired: its signal is as the program has ordered it.
Status HomeCpuTimers::fire_posix(std::list<HomeThread>& threads, Now& now, int id,
                                 PosixTimer& timer) {
  const std::uint64_t clock = now.both(timer.clock);
  if (timer.to_rest || !timer.timer.due(clock)) return {};
  const bool patient = timer.timer.overdue(clock) < kPatience * cpu_tick();
  const bool to_thread = (timer.notify & SIGEV_THREAD_ID) != 0;
  HomeThread* const thread =
      to_thread ? any_sender(threads, timer.target) : sender(threads, timer.signal, user_, patient);
  // Before it is sent, for it may be taken at once.
  const CpuTimer before = timer.timer;
  timer.timer.fired();
  timer.look_at = timer.timer.next(clock).value_or(kNever);
  const itimerspec expired{{0, 0}, {0, 1}};
  DROVER_TRY(
      const auto result,
      make(thread, call_with(SYS_timer_settime,
                             {static_cast<std::uint64_t>(id), TIMER_ABSTIME, 0, 0}, 2, expired)));
  if (!result) {
    timer.timer = before;
  } else if (*result < 0) {
    timer.timer.disarm();  // of a thread that has ended
  }
  return {};
}

// Each second from the soft limit on, which the kernel puts up by that; at the hard one it ends.
// Anybody may have changed them in the meantime, but not while we look.
Status HomeCpuTimers::mind_limit(std::list<HomeThread>& threads, Now& now) {
  const auto in_ns = [](std::uint64_t seconds) {
    return seconds > UINT64_MAX / kSecond ? UINT64_MAX : seconds * kSecond;
  };
  const std::uint64_t used = now.both({CpuClock::kProf, 0});
  if (limit_.soft == Limit::kNone || used < in_ns(limit_.soft)) return {};
  notice_limit();
  if (limit_.soft == Limit::kNone || used < in_ns(limit_.soft)) return {};
  if (limit_.hard != Limit::kNone && used >= in_ns(limit_.hard)) {
    kill(pid_, SIGKILL);
    limit_ = {};
    return {};
  }
  if (used < limit_quiet_until_) return {};
  const rlimit64 later{limit_.soft + 1, limit_.hard};
  DROVER_TRY(const auto put_up, make(sender(threads, SIGXCPU, user_, false),
                                     call_with(SYS_prlimit64, {0, RLIMIT_CPU, 0, 0}, 2, later)));
  if (!put_up) return {};
  limit_quiet_until_ = used + cpu_tick();
  notice_limit();
  limit_reached_ = true;
  return tell_of_limit(threads);
}

// Once the limit has been put up, the signal has to come, whenever somebody can send it.
Status HomeCpuTimers::tell_of_limit(std::list<HomeThread>& threads) {
  if (!limit_reached_) return {};
  DROVER_TRY(const bool sent, send_to_process(threads, SIGXCPU, false));
  limit_reached_ = !sent;
  return {};
}

template <class Use>
void HomeCpuTimers::each_wait(Now& now, Use use) const {
  for (const Itimer& one : itimers_) {
    if (one.timer.armed())
      use(CpuClockId{one.clock, 0}, std::max(one.timer.expires(), one.quiet_until));
  }
  for (const auto& [id, one] : posix_) {
    const auto next = one.timer.next(now.both(one.clock));
    if (next) use(one.clock, *next);
  }
  if (limit_.soft != Limit::kNone && limit_.soft < UINT64_MAX / kSecond) {
    use(CpuClockId{CpuClock::kProf, 0}, std::max(limit_.soft * kSecond, limit_quiet_until_));
  }
}

CpuWatchMessage HomeCpuTimers::wanted(Now& now) const {
  CpuWatchMessage wanted;
  for (const auto& [id, one] : posix_) {
    if (one.clock.thread > 0) wanted.threads.push_back({one.clock.thread, one.clock.clock, kNever});
  }
  each_wait(now, [&](const CpuClockId& clock, std::uint64_t at) {
    // What is due already waits for a thread of P's, not for the body.
    if (at <= now.both(clock)) return;
    const std::uint64_t away = at - std::min(at, now.home(clock));
    if (clock.thread > 0) {
      wanted.threads.push_back({clock.thread, clock.clock, away});
    } else {
      std::uint64_t& ring = wanted.process.at(static_cast<std::size_t>(clock.clock));
      ring = std::min(ring, away);
    }
  });
  std::ranges::sort(wanted.threads, [](const WatchedThread& a, const WatchedThread& b) {
    return std::tie(a.tid, a.clock, a.at) < std::tie(b.tid, b.clock, b.at);
  });
  // The earliest of each.
  const auto same = [](const WatchedThread& a, const WatchedThread& b) {
    return a.tid == b.tid && a.clock == b.clock;
  };
  wanted.threads.erase(std::unique(wanted.threads.begin(), wanted.threads.end(), same),
                       wanted.threads.end());
  return wanted;
}

// Whether the guest is to be told: of another wait, or of one that is much shorter because P has
// used something.
bool HomeCpuTimers::is_news(const CpuWatchMessage& wanted) const {
  if (!said_ || waited_for_ != (wanted != CpuWatchMessage{})) return true;
  const auto differs = [](std::uint64_t said, std::uint64_t now, std::uint64_t used) {
    if (said == kNever || now == kNever) return said != now;
    const std::uint64_t left = now > used ? now - used : 0;
    const std::uint64_t by = said > now ? said - now : now - said;
    return by >= std::max(cpu_tick(), left / kUnknownPart);
  };
  for (const CpuClock clock : kCpuClocks) {
    const auto index = static_cast<std::size_t>(clock);
    const std::uint64_t used = reading(process_.total(), clock);
    if (differs(said_->process.at(index), wanted.process.at(index), used)) return true;
  }
  const Now now(*this);
  return !std::ranges::equal(said_->threads, wanted.threads,
                             [&](const WatchedThread& a, const WatchedThread& b) {
                               return a.tid == b.tid && a.clock == b.clock &&
                                      !differs(a.at, b.at, now.away({b.clock, b.tid}));
                             });
}

// For what P uses itself, in its calls: it may be enough, before the body has used any more.
Status HomeCpuTimers::set_alarm(Now& now) {
  std::array<std::optional<std::uint64_t>, kCpuClocks.size()> ring;
  each_wait(now, [&](const CpuClockId& id, std::uint64_t at) {
    if (at <= now.both(id)) return;
    const std::uint64_t left = std::max(cpu_tick(), at - now.both(id));
    const CpuClock clock = id.thread > 0 ? CpuClock::kRuntime : id.clock;
    auto& earliest = ring.at(static_cast<std::size_t>(clock));
    const std::uint64_t then = bounded_sum(now.home({clock, 0}), left);
    earliest = std::min(earliest.value_or(kNever), then);
  });
  const bool none = std::ranges::none_of(ring, [](const auto& at) { return at.has_value(); });
  if (none && !alarm_) return {};
  if (!alarm_) alarm_.emplace(pid_);
  for (const CpuClock clock : kCpuClocks) {
    DROVER_CHECK(alarm_->set(clock, ring.at(static_cast<std::size_t>(clock))));
  }
  if (none) alarm_.reset();
  return {};
}

}  // namespace drover
