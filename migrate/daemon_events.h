// The event loop of a daemon of one thread: descriptors (epoll(7)) and timers.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// Calls handlers when their descriptors are ready and timers when they are due. A handler
/// may add and drop any watch or timer, its own too. Outlives its watches and timers.
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  /// Given the epoll events that are there; EPOLLHUP and EPOLLERR come unasked.
  using Handler = std::function<void(std::uint32_t events)>;

  /// Ends its watch or timer when it goes.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept { *this = std::move(other); }
    Hold& operator=(Hold&& other) noexcept {
      if (this == &other) return *this;
      reset();
      loop_ = std::exchange(other.loop_, nullptr);
      id_ = other.id_;
      return *this;
    }
    ~Hold() { reset(); }
    void reset() {
      if (loop_ != nullptr) std::exchange(loop_, nullptr)->drop(id_);
    }
    bool active() const { return loop_ != nullptr; }

   private:
    friend class EventLoop;
    Hold(EventLoop* loop, std::uint64_t id) : loop_(loop), id_(id) {}
    EventLoop* loop_ = nullptr;
    std::uint64_t id_ = 0;
  };

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Watches `fd` (level-triggered) for EPOLLIN and the like. The fd must stay open until the
  /// hold has gone.
  Result<Hold> watch(int fd, std::uint32_t events, Handler handler);
  /// Watches for other events from now on.
  Status change(const Hold& watch, std::uint32_t events);
  /// Calls `handler` once, after `delay`.
  Hold after(std::chrono::nanoseconds delay, std::function<void()> handler);
  /// Calls `handler` every `period`, the first time after one.
  Hold every(std::chrono::nanoseconds period, std::function<void()> handler);

  /// Runs until `stop`, which may have been called before. Then it may be run again.
  Status run();
  void stop() { stopping_ = true; }

 private:
  struct Watch {
    int fd;
    Handler handler;
  };
  struct Timer {
    Clock::time_point due;
    std::chrono::nanoseconds period;
    std::function<void()> handler;
  };
  using Order = std::pair<Clock::time_point, std::uint64_t>;

  explicit EventLoop(OwnedFd epoll) : epoll_(std::move(epoll)) {}
  Hold add_timer(std::chrono::nanoseconds delay, std::chrono::nanoseconds period,
                 std::function<void()> handler);
  void drop(std::uint64_t id);
  void run_timers();
  int wait_ms() const;

  OwnedFd epoll_;
  // Shared, so that a handler that drops itself goes on running.
  std::unordered_map<std::uint64_t, std::shared_ptr<Watch>> watches_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Timer>> timers_;
  std::map<Order, std::uint64_t> due_;
  std::uint64_t next_id_ = 1;
  bool stopping_ = false;
};

}  // namespace drover
