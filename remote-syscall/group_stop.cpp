// A stop of the whole process by a signal, while it is away. P's threads take part in it by
// themselves (hollow_thread.h). Once all of them have, the body is told to stand still, and when P
// goes on, so does the body, after it has been told of the signals that have come meanwhile. What
// the body said before it heard of the stop, it said a little late: that waits for the end of the
// stop.
#include <algorithm>

#include "remote-syscall/home_server.h"

namespace drover {
namespace {

/// What threads can say before they hear of a stop: each may be in a call, with all of its data.
constexpr std::size_t kMostKept = kMaxQueued;

}  // namespace

bool HomeServer::stop_begun() const {
  return std::ranges::any_of(*process_.threads, &HollowThread::in_group_stop);
}

Status HomeServer::follow_stop() {
  if (process_.recalling || process_.ending) return {};
  if (!stop_begun()) {
    const bool waits =
        told_of_stop_ || !kept_.empty() || std::ranges::any_of(threads_, &HomeThread::unblocks);
    return waits ? tell_of_end_of_stop() : Status{};
  }
  const bool complete = std::ranges::all_of(*process_.threads, &HollowThread::has_joined_stop);
  return complete && !told_of_stop_ ? tell_of_stop() : Status{};
}

// A guest of the first version knows no stops: what is stopped is at home.
Status HomeServer::tell_of_stop() {
  if (process_.event) return {};
  told_of_stop_ = true;
  if (process_.channel->protocol() >= kFirstWithStops) {
    return process_.channel->send(type(FrameType::kStop), {});
  }
  process_.event.emplace().words = "it is stopped by a signal";
  return {};
}

Status HomeServer::tell_of_end_of_stop() {
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.take_up_after_stop());
  DROVER_CHECK(notice_end());
  if (process_.ending || stop_begun()) return {};  // one of those signals has ended it, or stops it
  if (std::exchange(told_of_stop_, false) && process_.channel->protocol() >= kFirstWithStops) {
    DROVER_CHECK(process_.channel->send(type(FrameType::kContinue), {}));
  }
  DROVER_CHECK(serve_kept());
  return notice_end();
}

bool HomeServer::waits_for_end_of_stop(const Frame& frame) const {
  if (process_.recalling || process_.ending) return false;
  if (frame.type == type(FrameType::kFatal)) return false;  // nothing waits any more
  return !kept_.empty() || stop_begun();
}

Status HomeServer::keep(const Frame& frame) {
  kept_bytes_ += sizeof frame + frame.payload.size();
  if (kept_bytes_ > kMostKept) return refusal("the body goes on although it is to stand still");
  kept_.push_back(frame);
  return {};
}

// But not beyond the next stop.
Status HomeServer::serve_kept() {
  while (!kept_.empty() && !process_.ending && (process_.recalling || !stop_begun())) {
    const Frame frame = std::move(kept_.front());
    kept_.pop_front();
    DROVER_CHECK(serve(frame));
  }
  if (kept_.empty()) kept_bytes_ = 0;
  return {};
}

}  // namespace drover
