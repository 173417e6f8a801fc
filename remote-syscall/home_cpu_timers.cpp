// What the calls of a program that is away do to its timers by CPU time, and are answered.
#include "remote-syscall/home_cpu_timers.h"

#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace drover {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

struct KernelTimespec {
  std::int64_t seconds = 0;
  std::int64_t rest = 0;
};
/// As setitimer(2), in microseconds, and timer_settime(2), in nanoseconds, have them.
struct KernelSetting {
  KernelTimespec interval;
  KernelTimespec value;
};

bool is_valid(const KernelTimespec& t, std::int64_t units) {
  return t.seconds >= 0 && t.rest >= 0 && t.rest < units;
}

std::uint64_t in_ns(const KernelTimespec& t, std::int64_t units) {
  const auto seconds = static_cast<std::uint64_t>(t.seconds);
  if (seconds >= INT64_MAX / kSecond) return INT64_MAX;
  return seconds * kSecond + static_cast<std::uint64_t>(t.rest) * (kSecond / units);
}

KernelTimespec from_ns(std::uint64_t ns, std::int64_t units) {
  return {static_cast<std::int64_t>(ns / kSecond),
          static_cast<std::int64_t>(ns % kSecond / (kSecond / units))};
}

/// Where a call's argument stands in the data that goes with it.
std::optional<std::uint32_t> place_of(const CallRequest& request, std::uint32_t argument) {
  for (const Relocation& relocation : request.relocations) {
    if (relocation.where == Relocation::kArgument + argument) return relocation.target;
  }
  return std::nullopt;
}

/// What P's kernel has written there; empty if it is not in the reply.
std::span<std::byte> written(const CallRequest& request, std::uint32_t argument,
                             std::span<const Piece> pieces, std::span<std::byte> data) {
  const auto place = place_of(request, argument);
  std::size_t at = 0;
  for (const Piece& piece : pieces) {
    if (piece.offset == place) return data.subspan(at, piece.length);
    at += piece.length;
  }
  return {};
}

template <class T>
std::optional<T> record_at(std::span<const std::byte> from) {
  T value;
  if (from.size() < sizeof value) return std::nullopt;
  std::memcpy(&value, from.data(), sizeof value);
  return value;
}
template <class T>
void put_record(std::span<std::byte> to, const T& value) {
  if (to.size() >= sizeof value) std::memcpy(to.data(), &value, sizeof value);
}

void put_setting(std::span<std::byte> to, const TimerSetting& setting, std::int64_t units) {
  put_record(to, KernelSetting{from_ns(setting.interval, units), from_ns(setting.value, units)});
}

constexpr std::int64_t kMicroseconds = 1'000'000;
constexpr std::int64_t kNanoseconds = 1'000'000'000;

/// The setting in a call's argument, which disarms from now on.
std::optional<TimerSetting> take_setting(CallRequest& request, std::uint32_t argument,
                                         std::int64_t units) {
  const auto place = place_of(request, argument);
  if (!place || *place + sizeof(KernelSetting) > request.data.size()) return std::nullopt;
  const auto there = std::span(request.data).subspan(*place, sizeof(KernelSetting));
  const auto setting = *record_at<KernelSetting>(there);
  // P's kernel says so.
  if (!is_valid(setting.value, units) || !is_valid(setting.interval, units)) return std::nullopt;
  put_record(there, KernelSetting{});
  return TimerSetting{in_ns(setting.value, units), in_ns(setting.interval, units)};
}

}  // namespace

void ReportedCpuTime::report(const CpuTime& used) {
  if (used.runtime < last_.runtime) elsewhere_ += last_;
  last_ = used;
}

std::uint64_t HomeCpuTimers::Now::home(const CpuClockId& id) {
  auto known = home_.find(id.thread);
  if (known == home_.end()) {
    const auto used = id.thread == 0 ? cpu_time_of_process(timers_->pid_)
                                     : cpu_time_of_thread(timers_->pid_, id.thread);
    known = home_.emplace(id.thread, used ? *used : CpuTime{}).first;
  }
  return reading(known->second, id.clock);
}

std::uint64_t HomeCpuTimers::Now::away(const CpuClockId& id) const {
  if (id.thread == 0) return reading(timers_->process_.total(), id.clock);
  const auto known = timers_->threads_.find(id.thread);
  return known == timers_->threads_.end() ? 0 : reading(known->second.total(), id.clock);
}

void HomeCpuTimers::told(const CpuUsedMessage& message) {
  process_.report(message.process);
  for (const ThreadCpu& thread : message.threads) threads_[thread.tid].report(thread.used);
  user_ = message.user;
  if (message.rang == 0 || !said_) return;
  said_->process.fill(CpuWatchMessage::kNever);
  for (WatchedThread& thread : said_->threads) thread.at = CpuWatchMessage::kNever;
}

void HomeCpuTimers::forget_away() {
  process_ = {};
  threads_.clear();
}

void HomeCpuTimers::notice_limit() {
  if (const auto limit = cpu_limit_of(pid_)) limit_ = *limit;
}

HomeCpuTimers::Itimer* HomeCpuTimers::itimer(std::uint64_t which) {
  const auto found = std::ranges::find(itimers_, static_cast<int>(which), &Itimer::which);
  return found == itimers_.end() ? nullptr : &*found;
}

HomeCpuTimers::PosixTimer* HomeCpuTimers::posix(std::uint64_t id) {
  const auto found = posix_.find(static_cast<int>(id));
  return found == posix_.end() ? nullptr : &found->second;
}

std::optional<TimerChange> HomeCpuTimers::before(CallRequest& request) {
  const CallArguments& a = request.arguments;
  std::optional<TimerSetting> setting;
  bool absolute = false;
  if (request.number == SYS_setitimer && itimer(a[0]) != nullptr) {
    // Without a setting it is disarmed.
    const bool none = a[1] == 0 && !place_of(request, 1);
    setting = none ? TimerSetting{} : take_setting(request, 1, kMicroseconds);
  } else if (request.number == SYS_timer_settime && posix(a[0]) != nullptr) {
    setting = take_setting(request, 2, kNanoseconds);
    absolute = (a[1] & TIMER_ABSTIME) != 0;
  }
  return setting ? std::optional(TimerChange{*setting, absolute}) : std::nullopt;
}

void HomeCpuTimers::after(const CallRequest& request, std::int32_t tid,
                          const std::optional<TimerChange>& change, std::int64_t& result,
                          std::span<const Piece> pieces, std::span<std::byte> data) {
  if (result < 0) return;
  switch (request.number) {
    case SYS_setitimer:
    case SYS_getitimer:
    case SYS_timer_settime:
    case SYS_timer_gettime:
    case SYS_timer_getoverrun:
      return after_timer_call(request, change, result, pieces, data);
    case SYS_timer_create:
      return after_create(request, tid, pieces, data);
    case SYS_timer_delete:
      posix_.erase(static_cast<int>(request.arguments[0]));
      return;
    case SYS_setrlimit:
    case SYS_prlimit64:
      return notice_limit();
    case SYS_rt_sigtimedwait:
    case SYS_read:
      return tell_overruns(request, pieces, data);
    default:
      return;
  }
}

void HomeCpuTimers::after_timer_call(const CallRequest& request,
                                     const std::optional<TimerChange>& change, std::int64_t& result,
                                     std::span<const Piece> pieces, std::span<std::byte> data) {
  Now now(*this);
  const bool sets = request.number == SYS_setitimer || request.number == SYS_timer_settime;
  if (request.number == SYS_setitimer || request.number == SYS_getitimer) {
    Itimer* const timer = itimer(request.arguments[0]);
    if (!timer || (sets && !change)) return;
    const std::uint64_t clock = now.both({timer->clock, 0});
    put_setting(written(request, sets ? 2 : 1, pieces, data), timer->timer.left(clock, cpu_tick()),
                kMicroseconds);
    if (sets) timer->timer.set(clock, change->setting, cpu_tick());
    return;
  }
  PosixTimer* const timer = posix(request.arguments[0]);
  if (!timer || (sets && !change)) return;
  if (request.number == SYS_timer_getoverrun) {
    if (!timer->in_p) result = timer->timer.overrun();
    return;
  }
  const std::uint64_t clock = now.both(timer->clock);
  put_setting(written(request, sets ? 3 : 1, pieces, data), timer->timer.left(clock, cpu_tick()),
              kNanoseconds);
  if (!sets) return;
  timer->in_p = timer->to_rest = false;
  timer->timer.set(clock, change->setting, change->absolute);
}

void HomeCpuTimers::after_create(const CallRequest& request, std::int32_t tid,
                                 std::span<const Piece> pieces, std::span<const std::byte> data) {
  const auto clock =
      own_cpu_clock(static_cast<clockid_t>(request.arguments[0]), static_cast<int>(pid_), tid);
  const auto id = pieces.empty() ? std::nullopt : record_at<std::int32_t>(data);
  if (!clock || !id) return;
  struct Event {
    std::uint64_t value;
    std::int32_t signal;
    std::int32_t notify;
    std::int32_t target;
  } event{0, SIGALRM, SIGEV_SIGNAL, 0};
  if (const auto place = place_of(request, 1); place && *place < request.data.size()) {
    event = record_at<Event>(std::span(request.data).subspan(*place)).value_or(event);
  }
  PosixTimer timer;
  timer.clock = *clock;
  timer.notify = event.notify;
  timer.signal = event.signal;
  timer.target = event.target;
  timer.timer = CpuTimer(event.notify == SIGEV_NONE);
  posix_[*id] = timer;
}

HomeCpuTimers::PosixTimer* HomeCpuTimers::taken(int code, std::uint64_t id,
                                                std::int64_t overruns_in_p) {
  PosixTimer* const timer = code == SI_TIMER ? posix(id) : nullptr;
  if (!timer || !timer->timer.pending()) return nullptr;
  Now now(*this);
  std::int64_t counted = 0;
  if (std::exchange(timer->in_p, false)) {
    // What P's kernel has counted, but for what is counted here.
    counted = overruns_in_p - timer->timer.periods(timer->next_in_p, now.home(timer->clock));
    timer->to_rest = timer->timer.periodic();
  }
  timer->timer.taken(now.both(timer->clock), counted);
  return timer;
}

void HomeCpuTimers::taken(siginfo_t& info) {
  const PosixTimer* const timer =
      taken(info.si_code, static_cast<std::uint64_t>(info.si_timerid), info.si_overrun);
  if (timer) info.si_overrun = timer->timer.overrun();
}

// A signal that a call of P's has taken, rt_sigtimedwait or a read of a signalfd: there are no
// others whose results look so.
void HomeCpuTimers::tell_overruns(const CallRequest& request, std::span<const Piece> pieces,
                                  std::span<std::byte> data) {
  if (posix_.empty()) return;
  if (request.number == SYS_rt_sigtimedwait) {
    const auto place = written(request, 1, pieces, data);
    auto info = record_at<siginfo_t>(place);
    if (!info) return;
    taken(*info);
    put_record(place, *info);
    return;
  }
  const std::string link =
      "/proc/" + std::to_string(pid_) + "/fd/" + std::to_string(request.arguments[0]);
  char target[64];
  const ssize_t n = readlink(link.c_str(), target, sizeof target);
  if (n <= 0 || std::string_view(target, static_cast<std::size_t>(n)) != "anon_inode:[signalfd]") {
    return;
  }
  auto place = written(request, 1, pieces, data);
  for (; place.size() >= sizeof(signalfd_siginfo);
       place = place.subspan(sizeof(signalfd_siginfo))) {
    auto info = *record_at<signalfd_siginfo>(place);
    const PosixTimer* const timer = taken(info.ssi_code, info.ssi_tid, info.ssi_overrun);
    if (!timer) continue;
    info.ssi_overrun = static_cast<std::uint32_t>(timer->timer.overrun());
    put_record(place, info);
  }
}

void HomeCpuTimers::thread_ended(std::int32_t tid) {
  for (auto& [id, timer] : posix_) {
    if (timer.clock.thread == tid) timer.timer.disarm();
  }
  threads_.erase(tid);
}

}  // namespace drover
