// The lease of a body, as its guest keeps it: without a word of home's for so long, the body ends,
// for then it may go on elsewhere (docs/protocol.md).
#pragma once

#include <chrono>
#include <optional>

#include "common/result.h"
#include "migrate/lease.h"

namespace drover {

/// What home says makes the lease begin anew, but from when it has come on, not from when a guest
/// that was busy takes it up: home may have fallen silent meanwhile, and counts from there.
class BodyLease {
 public:
  using Clock = std::chrono::steady_clock;

  /// Begins with kLease, which the first word of home's after this makes `granted`.
  void begin(Clock::time_point now = Clock::now());
  void grant(std::chrono::milliseconds granted);

  /// All that had come from home by now has been taken.
  void heard_out(Clock::time_point now = Clock::now()) { quiet_until_ = now; }
  /// The guest has done nothing but wait for so long, and would have noticed a word of home's.
  void listened(Clock::duration time) { quiet_until_ += time; }
  /// A word of home's is taken. True: it has changed the lease's length.
  bool hear();
  /// No part of the body runs. One does again only when home has heard what the guest says next,
  /// and answers that.
  void stands_still(Clock::time_point now = Clock::now());

  Clock::time_point end() const { return heard_ + length_; }
  std::chrono::milliseconds length() const { return length_; }
  /// An error once it is over.
  Status check(Clock::time_point now = Clock::now()) const;

 private:
  std::chrono::milliseconds granted_ = kLease;
  std::chrono::milliseconds length_ = kLease;
  Clock::time_point heard_;
  Clock::time_point quiet_until_;  // what has not been taken yet has come after this
};

/// Kills this program a moment after the end of a lease, whatever it is held up by: with it goes
/// the body (PTRACE_O_EXITKILL). In time for a home that waits kMargin longer.
class LeaseAlarm {
 public:
  /// From now on it goes off after this.
  void set(BodyLease::Clock::time_point lease_end);
  /// Not any more: nothing of the body runs.
  void stop();

 private:
  std::optional<BodyLease::Clock::time_point> lease_end_;
};

}  // namespace drover
