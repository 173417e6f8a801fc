// Timers by CPU time as the kernel keeps them (kernel/time/posix-cpu-timers.c, itimer.c), by clocks
// that are read elsewhere. All times are nanoseconds.
#pragma once

#include <cstdint>
#include <optional>

namespace drover {

/// What is set of a timer, and what is left of it.
struct TimerSetting {
  std::uint64_t value = 0;  ///< 0: disarmed
  std::uint64_t interval = 0;

  bool operator==(const TimerSetting&) const = default;
};

/// One of setitimer(2).
class CpuItimer {
 public:
  /// `tick` is how often the kernel looks: it adds one.
  void set(std::uint64_t now, const TimerSetting& setting, std::uint64_t tick);
  /// So much was left of one that was set elsewhere.
  void take_over(std::uint64_t now, const TimerSetting& left);
  TimerSetting left(std::uint64_t now, std::uint64_t tick) const;

  bool armed() const { return expires_ != 0; }
  std::uint64_t expires() const { return expires_; }
  /// It has sent its signal: the next one is an interval later, and as long as that is past
  /// already, there is one at each look.
  void fired();

 private:
  std::uint64_t expires_ = 0;
  std::uint64_t interval_ = 0;
};

/// One of timer_create(2).
class CpuTimer {
 public:
  /// `silent`: SIGEV_NONE.
  explicit CpuTimer(bool silent = false) : silent_(silent) {}

  /// Forgets what was pending.
  void set(std::uint64_t now, const TimerSetting& setting, bool absolute);
  void take_over(std::uint64_t now, const TimerSetting& left, int overrun);
  /// Of one whose signal is pending so much is left until it is overrun once more.
  void take_over_pending(std::uint64_t now, const TimerSetting& left);
  TimerSetting left(std::uint64_t now, std::uint64_t tick) const;

  /// When its signal is to be sent, or, as long as that is pending, when it is overrun once more.
  std::optional<std::uint64_t> next(std::uint64_t now) const;
  bool due(std::uint64_t now) const;
  void fired();
  /// Its signal has been sent and not been taken yet.
  bool pending() const { return pending_; }
  bool periodic() const { return interval_ != 0; }
  std::uint64_t interval() const { return interval_; }
  /// Its signal has been taken: the value is the si_overrun that goes with it, beside those that
  /// have been counted elsewhere.
  int taken(std::uint64_t now, std::int64_t counted = 0);
  /// How long ago the signal that is pending, or is due, came up.
  std::uint64_t overdue(std::uint64_t now) const;
  /// How often one that expires at `next` does until then.
  std::int64_t periods(std::uint64_t next, std::uint64_t now) const;
  void disarm();

  /// timer_getoverrun(2).
  int overrun() const { return overrun_; }

 private:
  std::uint64_t after(std::uint64_t now) const;

  std::uint64_t expires_ = 0;
  std::uint64_t interval_ = 0;
  int overrun_ = 0;
  bool silent_;
  bool pending_ = false;
};

/// a + b, but no more than there is.
constexpr std::uint64_t bounded_sum(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

}  // namespace drover
