#include "remote-syscall/body_supervisor.h"

#include <sys/ioctl.h>

#include <algorithm>

#include "common/process/queued_signal.h"
#include "remote-syscall/body_limits.h"

namespace drover {

namespace {

Status check_empty(const Frame& frame) {
  if (!frame.payload.empty()) return refusal("a stop or its end: malformed message");
  return {};
}

}  // namespace

BodySupervisor::BodySupervisor(Body& body, SecureChannel& channel)
    : body_(&body), channel_(&channel), cpu_(body, channel) {
  for (BodyThread& thread : body.threads) threads_.emplace_back(body, thread, channel, cpu_);
}

Result<ThreadSupervisor*> BodySupervisor::thread(std::int32_t home_tid) {
  for (ThreadSupervisor& thread : threads_) {
    if (thread.thread().home_tid == home_tid) return &thread;
  }
  return refusal("home speaks of thread " + std::to_string(home_tid) + ", which there is not");
}

Status BodySupervisor::run() {
  if (stopped_) return {};
  for (ThreadSupervisor& thread : threads_) {
    if (thread.frozen()) DROVER_CHECK(thread.run());
  }
  return {};
}

Status BodySupervisor::stand_still() {
  stopped_ = true;
  for (ThreadSupervisor& thread : threads_) {
    if (!ended()) DROVER_CHECK(thread.stand_still());
  }
  forget_ended();
  return {};
}

// Also those that had been stopped for a move that came to nothing.
Status BodySupervisor::go_on() {
  if (!std::exchange(stopped_, false)) return refusal("the process goes on, but was not stopped");
  return run();
}

Status BodySupervisor::freeze(const std::function<Result<Frame>()>& next_word) {
  for (ThreadSupervisor& thread : threads_) DROVER_CHECK(thread.go_no_further());
  while (awaits_home() && !ended()) {
    DROVER_TRY(const Frame frame, next_word());
    DROVER_CHECK(on_frame(frame));
  }
  if (exiting()) return {};
  // All at once: none runs on while another one is waited for.
  for (ThreadSupervisor& thread : threads_) DROVER_CHECK(thread.begin_to_stop());
  for (ThreadSupervisor& thread : threads_) {
    if (ended()) return {};
    DROVER_CHECK(thread.freeze());
  }
  forget_ended();
  return {};
}

bool BodySupervisor::awaits_home() const {
  return std::ranges::any_of(threads_, &ThreadSupervisor::awaits_home);
}

Status BodySupervisor::on_notification() {
  seccomp_notif notification{};
  if (ioctl(body_->listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) {
    if (errno == ENOENT || errno == EINTR || errno == EAGAIN) return {};
    return errno_error("receive a system call of the body");
  }
  for (ThreadSupervisor& thread : threads_) {
    if (thread.thread().tid == static_cast<pid_t>(notification.pid)) {
      return thread.dispatch(notification);
    }
  }
  return {};  // it has been killed meanwhile
}

Status BodySupervisor::look() {
  for (ThreadSupervisor& thread : threads_) {
    if (ended()) return {};
    DROVER_CHECK(thread.look());
  }
  forget_ended();
  return {};
}

// Those that have left. If one has died, so has the body.
void BodySupervisor::forget_ended() {
  if (ended()) return;
  for (auto thread = threads_.begin(); thread != threads_.end();) {
    if (!thread->ended()) {
      ++thread;
      continue;
    }
    const pid_t tid = thread->thread().tid;
    body_->cpu.forget(thread->thread().home_tid);
    thread = threads_.erase(thread);
    body_->threads.remove_if([&](const BodyThread& other) { return other.tid == tid; });
  }
}

Status BodySupervisor::on_frame(const Frame& frame) {
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kHeartbeat:
      return {};
    case FrameType::kReply: {
      WireReader r(frame.payload);
      DROVER_TRY(const OutcomeHead head, OutcomeHead::decode(r));
      DROVER_TRY(ThreadSupervisor* const caller, thread(head.tid));
      DROVER_CHECK(caller->on_reply(frame.payload));
      DROVER_CHECK(take_up_made());
      return stopped_ ? stand_still() : Status{};
    }
    case FrameType::kMaskSet: {
      DROVER_TRY(const auto message, decode_record<MaskSet>(frame.payload, "mask set"));
      DROVER_TRY(ThreadSupervisor* const changed, thread(message.tid));
      DROVER_CHECK(changed->on_mask_set());
      return stopped_ ? stand_still() : Status{};
    }
    case FrameType::kStop:
      DROVER_CHECK(check_empty(frame));
      return stand_still();
    case FrameType::kContinue:
      DROVER_CHECK(check_empty(frame));
      return go_on();
    case FrameType::kSignal: {
      DROVER_TRY(const auto message, SignalMessage::decode(frame.payload));
      return on_signal(message);
    }
    case FrameType::kSchedule: {
      DROVER_TRY(const auto message, ScheduleMessage::decode(frame.payload));
      return on_schedule(message);
    }
    case FrameType::kCpuWatch: {
      DROVER_TRY(const auto message, CpuWatchMessage::decode(frame.payload));
      return cpu_.watch(message);
    }
    case FrameType::kLimits: {
      DROVER_TRY(const auto limits, decode_record<MemoryLimits>(frame.payload, "limits"));
      return limit_body(*body_, limits);
    }
    default:
      return refusal("unexpected message " + std::to_string(frame.type) + " from home");
  }
}

// One that has just ended needs none.
Status BodySupervisor::on_schedule(const ScheduleMessage& message) {
  const auto found = std::ranges::find(body_->threads, message.tid, &BodyThread::home_tid);
  if (found == body_->threads.end()) return {};
  found->schedule = message.schedule;
  follow_schedule(found->tid, message.schedule, body_->cpus);
  return {};
}

// A call that was answered may have made a thread.
Status BodySupervisor::take_up_made() {
  if (body_->threads.size() == threads_.size()) return {};
  ThreadSupervisor& made = threads_.emplace_back(*body_, body_->threads.back(), *channel_, cpu_);
  return stopped_ ? Status{} : made.run();
}

// A thread that has ended meanwhile cannot take one of the process's: home gives it to another.
Status BodySupervisor::on_signal(const SignalMessage& message) {
  const auto told = thread(message.tid);
  if (told && !(*told)->leaving()) return (*told)->on_signal(message);
  if (is_for_thread(message.info, body_->home_pid)) return {};
  SignalMessage back = message;
  back.tid = body_->home_pid;
  return channel_->send(type(FrameType::kSignal), encode_record(back));
}

bool BodySupervisor::frozen() const {
  return std::ranges::all_of(threads_, &ThreadSupervisor::frozen);
}
bool BodySupervisor::ended() const {
  return std::ranges::any_of(threads_, &ThreadSupervisor::died);
}
bool BodySupervisor::exiting() const {
  return std::ranges::any_of(threads_, &ThreadSupervisor::exiting);
}

Status BodySupervisor::declare_anew() {
  ThreadsMessage all;
  for (const BodyThread& thread : body_->threads) all.tids.push_back(thread.home_tid);
  DROVER_CHECK(channel_->send(type(FrameType::kThreads), all.encode()));
  for (ThreadSupervisor& thread : threads_) DROVER_CHECK(thread.declare_mask_anew());
  for (std::int32_t signal = 1; signal <= kSignalCount; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    const ActionMessage action{signal, body_->home_pid,
                               body_->actions[static_cast<std::size_t>(signal - 1)]};
    DROVER_CHECK(channel_->send(type(FrameType::kAction), encode_record(action)));
  }
  return {};
}

SignalsOfThreads BodySupervisor::undelivered() const {
  SignalsOfThreads all;
  for (const ThreadSupervisor& thread : threads_) {
    all[thread.thread().home_tid] = thread.undelivered();
  }
  return all;
}

void BodySupervisor::adopt(const SignalsOfThreads& signals) {
  for (ThreadSupervisor& thread : threads_) {
    const auto found = signals.find(thread.thread().home_tid);
    if (found != signals.end()) thread.adopt(found->second);
  }
}

}  // namespace drover
