// How a body comes to a thread that its program asks for: home makes one first, because the ids are
// home's, then the body's gets that id.
#include <sys/syscall.h>

#include "common/log.h"
#include "common/process/new_thread.h"
#include "remote-syscall/thread_supervisor.h"

namespace drover {

Status ThreadSupervisor::ask_for_thread(const seccomp_notif& notification) {
  const int number = notification.data.nr;
  CallArguments arguments;
  std::copy(std::begin(notification.data.args), std::end(notification.data.args),
            arguments.begin());
  const auto wanted = WantedThread::of_call(number, arguments, body_->memory);
  if (!wanted) return need_home(number);
  call_.wanted = *wanted;
  call_.request.clear();
  call_.request.number = number;
  call_.request.arguments[0] = wanted->arguments.flags;
  return send_call();
}

// The kernel makes it by the program's own arguments, in a call of ours.
Status ThreadSupervisor::make_thread(std::int32_t home_tid) {
  DROVER_CHECK(stop_in_call(kErestartnointr));
  if (ended_) return {};
  const TracedThread& maker = thread_->thread;
  DROVER_TRY(Registers r, maker.registers());
  DROVER_TRY(const NewThread made, drover::make_thread(maker, body_->memory, body_->scratch,
                                                       call_.wanted.arguments, home_tid));
  if (made.result < 0) return thread_not_made(home_tid, made.result);

  DROVER_TRY(const Registers born, made.thread.registers());
  DROVER_CHECK(made.thread.set_registers(call_.wanted.registers(r, born)));
  body_->threads.push_back({made.thread.tid(), home_tid, made.thread, call_.wanted.clear_child_tid,
                            thread_->declared_mask, 0, thread_->schedule});
  r.rax = static_cast<std::uint64_t>(home_tid);
  r.orig_rax = static_cast<std::uint64_t>(-1);
  DROVER_CHECK(maker.set_registers(r));
  return run();
}

// For a reason of this node: at home the call is made anew, and P's thread has never been.
Status ThreadSupervisor::thread_not_made(std::int32_t home_tid, std::int64_t why) {
  log_warn("thread {} of the body was not made: errno {}", home_tid, -why);
  ExitMessage message;
  message.tid = home_tid;
  message.whole_process = 0;
  DROVER_CHECK(channel_->send(type(FrameType::kExit), encode_record(message)));
  return channel_->send(type(FrameType::kNeedHome),
                        encode_record(NeedHome{thread_->home_tid, call_.request.number}));
}

}  // namespace drover
