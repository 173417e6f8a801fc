#include "remote-syscall/cpu_watch.h"

#include <sys/syscall.h>

#include <algorithm>

#include "remote-syscall/body_messages.h"

namespace drover {
namespace {

constexpr std::uint64_t kNever = CpuWatchMessage::kNever;
/// Of what is left until home wants a word, home may not know so large a part.
constexpr std::uint64_t kUnknownPart = 16;

bool is_about_timers(int number) {
  switch (number) {
    case SYS_getitimer:
    case SYS_setitimer:
    case SYS_timer_create:
    case SYS_timer_settime:
    case SYS_timer_gettime:
    case SYS_timer_getoverrun:
    case SYS_setrlimit:
    case SYS_prlimit64:
      return true;
    default:
      return false;
  }
}

/// Whether P may take a signal in it that was pending, and tells of a timer's overruns until then.
bool may_take_signal(int number) {
  switch (number) {
    case SYS_read:
    case SYS_rt_sigtimedwait:
    case SYS_rt_sigsuspend:
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      return true;
    default:
      return false;
  }
}

}  // namespace

Status CpuWatch::before_call(const CallRequest& request, std::int32_t caller) {
  if (channel_->protocol() < 2) return {};
  const bool needed = is_about_timers(request.number) ||
                      (home_counts_ && (may_take_signal(request.number) || has_used_much()));
  return needed ? tell(caller) : Status{};
}

Status CpuWatch::before_unblocking(std::int32_t caller) {
  return home_counts_ ? tell(caller) : Status{};
}

Status CpuWatch::tell(std::optional<std::int32_t> caller, bool rang) {
  if (channel_->protocol() < 2) return {};
  CpuUsedMessage message;
  message.process = told_ = body_->cpu.process(*body_).used;
  message.rang = rang ? 1 : 0;
  if (watch_) message.user = next_user(rang);
  std::vector<std::int32_t> tids;
  if (caller) tids.push_back(*caller);
  if (watch_) {
    for (const WatchedThread& thread : watch_->threads) tids.push_back(thread.tid);
  }
  std::ranges::sort(tids);
  tids.erase(std::unique(tids.begin(), tids.end()), tids.end());
  for (const std::int32_t tid : tids) {
    message.threads.push_back({tid, 0, body_->cpu.thread(*body_, tid).used});
  }
  return channel_->send(type(FrameType::kCpuUsed), message.encode());
}

bool CpuWatch::has_used_much() {
  if (!watch_) return false;
  const CpuTime now = body_->cpu.process(*body_).used;
  return std::ranges::any_of(kCpuClocks, [&](CpuClock clock) {
    const std::uint64_t at = watch_->process.at(static_cast<std::size_t>(clock));
    const bool threads = clock == CpuClock::kRuntime && !watch_->threads.empty();
    if (at == kNever && !threads) return false;
    const std::uint64_t told = reading(told_, clock);
    const std::uint64_t left = at != kNever && at > told ? at - told : 0;
    return reading(now, clock) - told >= std::max(cpu_tick(), left / kUnknownPart);
  });
}

Status CpuWatch::watch(const CpuWatchMessage& message) {
  watch_ = message;
  home_counts_ = message != CpuWatchMessage{};
  return set_alarms();
}

bool CpuWatch::reached() {
  const CpuTime process = body_->cpu.process(*body_).used;
  for (const CpuClock clock : kCpuClocks) {
    if (reading(process, clock) >= watch_->process.at(static_cast<std::size_t>(clock))) return true;
  }
  return std::ranges::any_of(watch_->threads, [&](const WatchedThread& thread) {
    return thread.at != kNever &&
           reading(body_->cpu.thread(*body_, thread.tid).used, thread.clock) >= thread.at;
  });
}

Status CpuWatch::on_alarm() {
  if (!watch_) return {};
  if (!reached()) return set_alarms();
  DROVER_CHECK(tell({}, true));
  // The threads are told of until home says otherwise.
  watch_->process.fill(kNever);
  for (WatchedThread& thread : watch_->threads) thread.at = kNever;
  return set_alarms();
}

// Another one's thread has no clock for us: until it has used what is left, its process has used
// at least as much. Never earlier than after a tick, as the kernel: home's answer comes so soon
// that a timer which is late would leave the program no time.
Status CpuWatch::set_alarms() {
  const CpuTime now = body_->cpu.process(*body_).used;
  std::array<std::uint64_t, kCpuClocks.size()> at = watch_->process;
  for (const WatchedThread& thread : watch_->threads) {
    if (thread.at == kNever) continue;
    const std::uint64_t used = reading(body_->cpu.thread(*body_, thread.tid).used, thread.clock);
    std::uint64_t& runtime = at.at(static_cast<std::size_t>(CpuClock::kRuntime));
    runtime = std::min(runtime, now.runtime + (thread.at > used ? thread.at - used : 0));
  }
  for (const CpuClock clock : kCpuClocks) {
    const std::uint64_t ring = at.at(static_cast<std::size_t>(clock));
    if (ring == kNever && !alarm_) continue;
    if (!alarm_) alarm_.emplace(body_->pid);
    if (ring == kNever) {
      DROVER_CHECK(alarm_->set(clock, std::nullopt));
      continue;
    }
    const std::uint64_t earliest = reading(now, clock) + cpu_tick();
    DROVER_CHECK(alarm_->set(clock, body_->cpu.on_own_clock(clock, std::max(ring, earliest))));
  }
  return {};
}

// At home the kernel finds a timer expired in whichever thread just runs: by and by each is found
// as often as is its share. The one that lags behind its share most has its turn.
std::int32_t CpuWatch::next_user(bool has_its_turn) {
  if (body_->threads.size() == 1) return body_->leader().home_tid;
  std::uint64_t used_by_all = 0;
  std::int32_t user = 0;
  std::map<std::int32_t, Share> now;
  for (const BodyThread& thread : body_->threads) {
    const std::uint64_t used = body_->cpu.thread(*body_, thread.home_tid).used.runtime;
    const auto known = shares_.find(thread.home_tid);
    const Share before = known != shares_.end() ? known->second : Share{};
    const std::uint64_t more = used - std::min(used, before.used);
    used_by_all += more;
    now[thread.home_tid] = {used, before.due + static_cast<std::int64_t>(more)};
    if (more > 0 && (user == 0 || now[thread.home_tid].due > now[user].due)) user = thread.home_tid;
  }
  if (user == 0 || !has_its_turn) return user;
  now[user].due -= static_cast<std::int64_t>(used_by_all);
  shares_ = std::move(now);
  return user;
}

}  // namespace drover
