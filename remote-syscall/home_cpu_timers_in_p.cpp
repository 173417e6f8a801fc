// How the timers by CPU time of a process that leaves its home are taken over from its kernel, and
// given back when it comes home.
#include <sys/syscall.h>

#include <algorithm>
#include <set>

#include "common/log.h"
#include "common/process/thread_list.h"
#include "remote-syscall/home_cpu_timers.h"
#include "remote-syscall/timers_of_process.h"

namespace drover {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kMicrosecond = 1000;
/// Instead of a thread that a timer is for.
constexpr std::int32_t kUnknown = -1;
constexpr std::int32_t kEnded = -2;

std::uint64_t in_ns(std::int64_t seconds, std::int64_t rest) {
  return static_cast<std::uint64_t>(seconds) * kSecond + static_cast<std::uint64_t>(rest);
}

timespec to_timespec(std::uint64_t ns) {
  return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
}
timeval to_timeval(std::uint64_t ns) {
  return {static_cast<time_t>(ns / kSecond), static_cast<suseconds_t>(ns % kSecond / kMicrosecond)};
}

/// The ids of the timers whose signals wait for any of the threads.
Result<std::set<int>> pending_timers(const std::list<HollowThread>& threads) {
  std::set<int> ids;
  const auto note = [&](const std::vector<siginfo_t>& signals) {
    for (const siginfo_t& info : signals) {
      if (info.si_code == SI_TIMER) ids.insert(info.si_timerid);
    }
  };
  for (const HollowThread& thread : threads) {
    if (thread.state() == HollowThread::State::kGone) continue;
    DROVER_TRY(const auto own, thread.thread().own_pending_signals());
    note(own);
  }
  DROVER_TRY(const auto shared, threads.front().thread().shared_pending_signals());
  note(shared);
  return ids;
}

}  // namespace

struct HomeCpuTimers::InP {
  Injection& injection;
  const ForeignMemory& memory;
  ForeignAddress at;

  std::uint64_t pointer() const { return at.value(); }
  Status set_timer(int id, int flags, const itimerspec& setting) const {
    DROVER_CHECK(memory.write_record(at, setting));
    const auto set = injection.call(
        "timer_settime", SYS_timer_settime,
        {static_cast<std::uint64_t>(id), static_cast<std::uint64_t>(flags), pointer(), 0});
    return set ? Status{} : Status(set.error());
  }
  Result<itimerspec> get_timer(int id) const {
    DROVER_CHECK(injection.call("timer_gettime", SYS_timer_gettime,
                                {static_cast<std::uint64_t>(id), pointer()}));
    return memory.read_record<itimerspec>(at);
  }
  Status set_itimer(int which, const itimerval& setting) const {
    DROVER_CHECK(memory.write_record(at, setting));
    const auto set = injection.call("setitimer", SYS_setitimer,
                                    {static_cast<std::uint64_t>(which), pointer(), 0});
    return set ? Status{} : Status(set.error());
  }
};

Status HomeCpuTimers::adopt(const std::list<HollowThread>& threads, const ForeignMemory& memory) {
  notice_limit();
  auto list = timers_of(pid_);
  // They stay P's, and know only of what that uses: no reason to lose the process.
  if (!list) log_warn("the timers of process {}: {}", pid_, list.error().message());
  const std::vector<ListedTimer> listed = list ? *std::move(list) : std::vector<ListedTimer>();
  DROVER_TRY(const std::set<int> pending, pending_timers(threads));
  const HollowThread& leader = threads.front();
  DROVER_TRY(Injection injection, Injection::trapping(leader.thread(), leader.scratch()));
  InP p{injection, memory, leader.scratch().data()};
  for (Itimer& timer : itimers_) DROVER_CHECK(take_over_itimer(p, timer));
  std::erase_if(posix_, [&](const auto& known) {
    return std::ranges::find(listed, known.first, &ListedTimer::id) == listed.end();
  });
  for (const ListedTimer& one : listed) {
    const auto clock = own_cpu_clock(one.clock, static_cast<std::int32_t>(pid_), 0);
    if (!clock) continue;
    const auto [known, is_new] = posix_.try_emplace(one.id);
    PosixTimer& timer = known->second;
    if (is_new) {
      timer.clock = *clock;
      timer.notify = one.notify;
      timer.signal = one.signal;
      timer.target = one.target;
      timer.timer = CpuTimer(one.notify == SIGEV_NONE);
      // Of the thread that has made it, which is not said.
      constexpr int kPerThread = 4;
      if ((one.clock & kPerThread) != 0 && clock->thread == 0) timer.clock.thread = kUnknown;
    }
    DROVER_CHECK(pending.contains(one.id) ? take_over_pending(p, one.id, timer)
                                          : take_over(p, one.id, timer));
  }
  forget_unknown();
  return injection.end();
}

void HomeCpuTimers::forget_unknown() {
  std::erase_if(posix_, [](const auto& known) { return known.second.clock.thread == kUnknown; });
}

Status HomeCpuTimers::take_over_itimer(InP& p, Itimer& timer) {
  DROVER_CHECK(p.injection.call("getitimer", SYS_getitimer,
                                {static_cast<std::uint64_t>(timer.which), p.pointer()}));
  DROVER_TRY(const auto left, p.memory.read_record<itimerval>(p.at));
  const auto ns = [](const timeval& t) {
    return in_ns(t.tv_sec, t.tv_usec * static_cast<std::int64_t>(kMicrosecond));
  };
  timer.timer.take_over(Now(*this).both({timer.clock, 0}),
                        {ns(left.it_value), ns(left.it_interval)});
  return timer.timer.armed() ? p.set_itimer(timer.which, {}) : Status{};
}

// One whose thread has ended can be asked, but not be set. One whose thread is not known P keeps:
// of what that uses away it knows nothing, so it never expires too early.
Status HomeCpuTimers::take_over(InP& p, int id, PosixTimer& timer) {
  timer.in_p = timer.to_rest = false;
  DROVER_TRY(const std::int64_t overrun,
             p.injection.raw(SYS_timer_getoverrun, {static_cast<std::uint64_t>(id)}));
  DROVER_TRY(const itimerspec left, p.get_timer(id));
  if (timer.clock.thread == kUnknown) {
    DROVER_TRY(timer.clock.thread, thread_of(p, id));
    if (timer.clock.thread == kUnknown) return p.set_timer(id, 0, left);
  }
  Status rests = p.set_timer(id, 0, {});
  if (!rests && rests.error().code != ESRCH) return rests;
  if (!rests) {
    timer.timer.disarm();
    return {};
  }
  timer.timer.take_over(Now(*this).both(timer.clock),
                        {in_ns(left.it_value.tv_sec, left.it_value.tv_nsec),
                         in_ns(left.it_interval.tv_sec, left.it_interval.tv_nsec)},
                        std::max(static_cast<int>(overrun), timer.timer.overrun()));
  return {};
}

// Whose it is cannot be found out without setting it.
Status HomeCpuTimers::take_over_pending(InP& p, int id, PosixTimer& timer) {
  if (timer.clock.thread == kUnknown) return {};
  DROVER_TRY(const itimerspec left, p.get_timer(id));
  const std::uint64_t value = in_ns(left.it_value.tv_sec, left.it_value.tv_nsec);
  Now now(*this);
  timer.timer.take_over_pending(now.both(timer.clock),
                                {value, in_ns(left.it_interval.tv_sec, left.it_interval.tv_nsec)});
  timer.in_p = true;
  timer.to_rest = false;
  timer.look_at = 0;
  timer.next_in_p = bounded_sum(now.home(timer.clock), value);
  return {};
}

// By what its clock shows: what is left until a moment far away. All threads stand still, but for
// the one that is asked.
Result<std::int32_t> HomeCpuTimers::thread_of(InP& p, int id) const {
  constexpr std::uint64_t kFarAway = 1ULL << 61;
  std::map<std::int32_t, std::uint64_t> before;
  const auto read_all = [&](std::map<std::int32_t, std::uint64_t>& all) -> Status {
    DROVER_TRY(const auto tids, threads_of(pid_));
    for (const pid_t tid : tids) {
      if (const auto used = cpu_time_of_thread(pid_, tid)) all[tid] = used->runtime;
    }
    return {};
  };
  DROVER_CHECK(read_all(before));
  const Status set = p.set_timer(id, TIMER_ABSTIME, {{}, to_timespec(kFarAway)});
  if (!set && set.error().code != ESRCH) return set.error();
  if (!set) return kEnded;
  DROVER_TRY(const itimerspec left, p.get_timer(id));
  const std::uint64_t shown = kFarAway - in_ns(left.it_value.tv_sec, left.it_value.tv_nsec);
  std::map<std::int32_t, std::uint64_t> after;
  DROVER_CHECK(read_all(after));
  for (const auto& [tid, used] : before) {
    if (used == shown && after[tid] == shown) return tid;
  }
  const auto asked = static_cast<std::int32_t>(pid_);
  return before[asked] <= shown && shown <= after[asked] ? asked : kUnknown;
}

Status HomeCpuTimers::give_back(const std::list<HollowThread>& threads,
                                const ForeignMemory& memory) {
  DROVER_TRY(const std::set<int> pending, pending_timers(threads));
  const HollowThread& leader = threads.front();
  DROVER_TRY(Injection injection, Injection::trapping(leader.thread(), leader.scratch()));
  InP p{injection, memory, leader.scratch().data()};
  Now now(*this);
  for (const Itimer& timer : itimers_) DROVER_CHECK(give_back_itimer(p, now, timer));
  for (auto& [id, timer] : posix_) {
    DROVER_CHECK(give_back_posix(p, now, id, timer, pending.contains(id)));
  }
  return injection.end();
}

// The kernel adds a tick to what it is told.
Status HomeCpuTimers::give_back_itimer(InP& p, Now& now, const Itimer& timer) const {
  if (!timer.timer.armed()) return {};
  const TimerSetting left = timer.timer.left(now.both({timer.clock, 0}), cpu_tick());
  const std::uint64_t value = left.value - std::min(left.value, cpu_tick());
  return p.set_itimer(timer.which,
                      {to_timeval(left.interval), to_timeval(std::max(value, kMicrosecond))});
}

// One whose signal is pending, and that has an interval, the kernel sets anew when that is taken:
// it is to be found in the state in which it would be, expired for so long. But no clock of P's can
// show that it expired before P began.
Status HomeCpuTimers::give_back_posix(InP& p, Now& now, int id, PosixTimer& timer,
                                      bool pending) const {
  const std::uint64_t both = now.both(timer.clock);
  // P's kernel counts on.
  if (pending && timer.in_p && timer.timer.overdue(both) < timer.timer.interval()) return {};
  if (!pending && timer.timer.pending()) timer.timer.taken(both);
  const TimerSetting left = timer.timer.left(both, cpu_tick());
  Status set;
  if (pending && timer.timer.periodic()) {
    const std::uint64_t home = now.home(timer.clock);
    const std::uint64_t since = std::min(timer.timer.overdue(both), home);
    set = p.set_timer(id, TIMER_ABSTIME,
                      {to_timespec(left.interval), to_timespec(std::max(home - since, 1UL))});
  } else if (!pending && left.value != 0) {
    const std::uint64_t value = timer.timer.due(both) ? 1 : left.value;
    set = p.set_timer(id, 0, {to_timespec(left.interval), to_timespec(value)});
  }
  return !set && set.error().code == ESRCH ? Status{} : set;
}

}  // namespace drover
