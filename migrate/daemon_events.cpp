#include "migrate/daemon_events.h"

#include <algorithm>
#include <array>

namespace drover {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  OwnedFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return errno_error("epoll_create1");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll)));
}

EventLoop::~EventLoop() {
  // Handlers may own holds: these must find a loop that is whole, and empty.
  const auto watches = std::exchange(watches_, {});
  const auto timers = std::exchange(timers_, {});
}

Result<EventLoop::Hold> EventLoop::watch(int fd, std::uint32_t events, Handler handler) {
  const std::uint64_t id = next_id_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) return errno_error("epoll_ctl");
  watches_.emplace(id, std::make_shared<Watch>(Watch{fd, std::move(handler)}));
  return Hold(this, id);
}

Status EventLoop::change(const Hold& watch, std::uint32_t events) {
  const auto found = watches_.find(watch.id_);
  if (found == watches_.end()) return refusal("no such watch");
  epoll_event event{};
  event.events = events;
  event.data.u64 = watch.id_;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second->fd, &event) < 0)
    return errno_error("epoll_ctl");
  return {};
}

EventLoop::Hold EventLoop::after(std::chrono::nanoseconds delay, std::function<void()> handler) {
  return add_timer(delay, std::chrono::nanoseconds::zero(), std::move(handler));
}

EventLoop::Hold EventLoop::every(std::chrono::nanoseconds period, std::function<void()> handler) {
  return add_timer(period, period, std::move(handler));
}

EventLoop::Hold EventLoop::add_timer(std::chrono::nanoseconds delay,
                                     std::chrono::nanoseconds period,
                                     std::function<void()> handler) {
  const std::uint64_t id = next_id_++;
  const Clock::time_point due = Clock::now() + std::chrono::duration_cast<Clock::duration>(delay);
  timers_.emplace(id, std::make_shared<Timer>(Timer{due, period, std::move(handler)}));
  due_.emplace(Order{due, id}, id);
  return Hold(this, id);
}

void EventLoop::drop(std::uint64_t id) {
  if (const auto watch = watches_.find(id); watch != watches_.end()) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->second->fd, nullptr);
    watches_.erase(watch);
  }
  if (const auto timer = timers_.find(id); timer != timers_.end()) {
    due_.erase(Order{timer->second->due, id});
    timers_.erase(timer);
  }
}

Status EventLoop::run() {
  std::array<epoll_event, 64> events;
  while (!stopping_) {
    const int n = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
    if (n < 0 && errno != EINTR) return errno_error("epoll_wait");
    for (int i = 0; i < n && !stopping_; ++i) {
      // A handler before this one may have dropped it.
      const auto found = watches_.find(events[static_cast<std::size_t>(i)].data.u64);
      if (found == watches_.end()) continue;
      const std::shared_ptr<Watch> watch = found->second;
      watch->handler(events[static_cast<std::size_t>(i)].events);
    }
    run_timers();
  }
  stopping_ = false;
  return {};
}

void EventLoop::run_timers() {
  const Clock::time_point now = Clock::now();
  while (!stopping_ && !due_.empty() && due_.begin()->first.first <= now) {
    const std::uint64_t id = due_.begin()->second;
    due_.erase(due_.begin());
    const std::shared_ptr<Timer> timer = timers_.at(id);
    if (timer->period > std::chrono::nanoseconds::zero()) {
      timer->due = now + std::chrono::duration_cast<Clock::duration>(timer->period);
      due_.emplace(Order{timer->due, id}, id);
    } else {
      timers_.erase(id);
    }
    timer->handler();
  }
}

int EventLoop::wait_ms() const {
  if (due_.empty()) return -1;
  const auto rest =
      std::chrono::ceil<std::chrono::milliseconds>(due_.begin()->first.first - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(rest.count(), 0, 60'000));
}

}  // namespace drover
