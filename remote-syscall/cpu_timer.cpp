#include "remote-syscall/cpu_timer.h"

#include <algorithm>
#include <climits>
#include <utility>

namespace drover {

void CpuItimer::set(std::uint64_t now, const TimerSetting& setting, std::uint64_t tick) {
  expires_ = setting.value == 0 ? 0 : bounded_sum(now, bounded_sum(setting.value, tick));
  interval_ = setting.interval;
}

void CpuItimer::take_over(std::uint64_t now, const TimerSetting& left) {
  expires_ = left.value == 0 ? 0 : bounded_sum(now, left.value);
  interval_ = left.interval;
}

TimerSetting CpuItimer::left(std::uint64_t now, std::uint64_t tick) const {
  if (expires_ == 0) return {0, interval_};
  return {expires_ > now ? expires_ - now : tick, interval_};
}

void CpuItimer::fired() { expires_ = interval_ == 0 ? 0 : bounded_sum(expires_, interval_); }

void CpuTimer::set(std::uint64_t now, const TimerSetting& setting, bool absolute) {
  expires_ = setting.value == 0 || absolute ? setting.value : bounded_sum(now, setting.value);
  interval_ = setting.value == 0 ? 0 : setting.interval;
  overrun_ = 0;
  pending_ = false;
}

void CpuTimer::take_over(std::uint64_t now, const TimerSetting& left, int overrun) {
  set(now, left, false);
  interval_ = left.interval;
  overrun_ = overrun;
}

void CpuTimer::take_over_pending(std::uint64_t now, const TimerSetting& left) {
  take_over(now, left, 0);
  pending_ = true;
  expires_ -= std::min(expires_, interval_);
}

/// The first expiration of one with an interval that is still to come.
std::uint64_t CpuTimer::after(std::uint64_t now) const {
  if (now < expires_) return expires_;
  return bounded_sum(expires_, ((now - expires_) / interval_ + 1) * interval_);
}

TimerSetting CpuTimer::left(std::uint64_t now, std::uint64_t tick) const {
  if (expires_ == 0) return {0, interval_};
  const std::uint64_t at = interval_ != 0 && (pending_ || silent_) ? after(now) : expires_;
  if (at > now) return {at - now, interval_};
  return {silent_ ? 0 : tick, interval_};
}

std::optional<std::uint64_t> CpuTimer::next(std::uint64_t now) const {
  if (expires_ == 0 || silent_) return std::nullopt;
  return pending_ ? after(now) : expires_;
}

bool CpuTimer::due(std::uint64_t now) const {
  return expires_ != 0 && !silent_ && !pending_ && now >= expires_;
}

void CpuTimer::fired() {
  pending_ = true;
  if (interval_ == 0) expires_ = 0;
}

int CpuTimer::taken(std::uint64_t now, std::int64_t counted) {
  if (!std::exchange(pending_, false)) return 0;
  std::int64_t overruns = counted;
  if (interval_ != 0 && now >= expires_) {
    const std::uint64_t here = (now - expires_) / interval_;
    expires_ = after(now);
    overruns += static_cast<std::int64_t>(std::min<std::uint64_t>(here, INT_MAX));
  }
  return overrun_ = static_cast<int>(std::clamp<std::int64_t>(overruns, 0, INT_MAX));
}

std::uint64_t CpuTimer::overdue(std::uint64_t now) const {
  return expires_ != 0 && now > expires_ ? now - expires_ : 0;
}

std::int64_t CpuTimer::periods(std::uint64_t next, std::uint64_t now) const {
  if (interval_ == 0 || now < next) return 0;
  return static_cast<std::int64_t>((now - next) / interval_ + 1);
}

void CpuTimer::disarm() {
  expires_ = 0;
  pending_ = false;
}

}  // namespace drover
