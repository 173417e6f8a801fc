#include "migrate/body_lease.h"

#include <sys/time.h>

#include <algorithm>

#include "common/log.h"

namespace drover {
namespace {

/// After the lease, by when a guest that is not held up has ended its body: kGrace, less at most
/// kSlack, for the alarm is not set anew with every word.
constexpr std::chrono::milliseconds kGrace{700};
constexpr std::chrono::milliseconds kSlack{300};
static_assert(kGrace < kMargin);

}  // namespace

void BodyLease::begin(Clock::time_point now) {
  heard_ = quiet_until_ = now;
  granted_ = length_ = kLease;
}

void BodyLease::grant(std::chrono::milliseconds granted) {
  granted_ = std::clamp(granted, kLease, kLongestLease);
}

// A word of home's after its commit: it has heard that the body runs, and does not let the process
// go on elsewhere because of a lease that is over.
bool BodyLease::hear() {
  heard_ = std::max(heard_, quiet_until_);
  return std::exchange(length_, granted_) != granted_;
}

void BodyLease::stands_still(Clock::time_point now) { heard_ = now; }

Status BodyLease::check(Clock::time_point now) const {
  if (now < end()) return {};
  return refusal("home was not heard of for too long: the body ends");
}

void LeaseAlarm::set(BodyLease::Clock::time_point lease_end) {
  if (lease_end_ && lease_end >= *lease_end_ && lease_end - *lease_end_ < kSlack) return;
  lease_end_ = lease_end;
  const auto left =
      std::max<std::chrono::microseconds>(std::chrono::duration_cast<std::chrono::microseconds>(
                                              lease_end + kGrace - BodyLease::Clock::now()),
                                          std::chrono::microseconds(1));
  const itimerval once{{0, 0}, {left.count() / 1'000'000, left.count() % 1'000'000}};
  if (setitimer(ITIMER_REAL, &once, nullptr) != 0) log_error("the alarm of a lease cannot be set");
}

void LeaseAlarm::stop() {
  lease_end_.reset();
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
}

}  // namespace drover
