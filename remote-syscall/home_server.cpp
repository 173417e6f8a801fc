#include "remote-syscall/home_server.h"

#include <sys/syscall.h>

#include <algorithm>
#include <iterator>

#include "common/process/queued_signal.h"

namespace drover {

HomeServer::HomeServer(std::list<HollowThread>& threads, const ForeignMemory& memory,
                       SecureChannel& channel,
                       const std::array<KernelSigaction, kSignalCount>& actions,
                       CallCounters& counters, bool stopped)
    : process_{.threads = &threads,
               .served = &threads_,
               .memory = &memory,
               .channel = &channel,
               .files = HomeFiles(memory.pid()),
               .limits = HomeLimits(memory.pid()),
               .timers = HomeCpuTimers(memory.pid()),
               .actions = actions,
               .counters = &counters,
               .event = {}},
      told_of_stop_(stopped) {
  for (HollowThread& thread : threads) threads_.emplace_back(thread, process_);
}

Result<HomeThread*> HomeServer::thread(pid_t tid) {
  for (HomeThread& thread : threads_) {
    if (thread.tid() == tid) return &thread;
  }
  return refusal("a message of thread " + std::to_string(tid) + ", which is none of the process's");
}

Status HomeServer::on_frame(const Frame& frame) {
  DROVER_CHECK(waits_for_end_of_stop(frame) ? keep(frame) : serve(frame));
  return notice_end();
}

Status HomeServer::serve(const Frame& frame) {
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kCall: {
      WireReader r(frame.payload);
      DROVER_TRY(HomeThread* const caller, thread(r.number<std::int32_t>()));
      DROVER_CHECK(caller->on_call(r));
      take_up_made();
      return {};
    }
    case FrameType::kMask: {
      DROVER_TRY(const auto m, decode_record<MaskMessage>(frame.payload, "mask"));
      DROVER_TRY(HomeThread* const changed, thread(m.tid));
      return changed->on_mask(m);
    }
    case FrameType::kMaskAfter: {
      DROVER_TRY(const auto m, decode_record<MaskAfter>(frame.payload, "mask"));
      DROVER_TRY(HomeThread* const changed, thread(m.mask.tid));
      DROVER_TRY(const std::vector<siginfo_t> voids, changed->void_signals(m));
      if (!voids.empty()) DROVER_CHECK(take_back(m.mask.tid, voids));
      return changed->on_mask(m.mask);
    }
    case FrameType::kAction: {
      DROVER_TRY(const auto m, ActionMessage::decode(frame.payload));
      DROVER_TRY(HomeThread* const changer, thread(m.tid));
      return changer->on_action(m);
    }
    case FrameType::kSignal: {
      DROVER_TRY(const auto m, SignalMessage::decode(frame.payload));
      return take_back(m.tid, {m.info});
    }
    case FrameType::kExit: {
      DROVER_TRY(const auto m, decode_record<ExitMessage>(frame.payload, "exit"));
      return on_exit(m);
    }
    case FrameType::kCpuUsed: {
      DROVER_TRY(const auto m, CpuUsedMessage::decode(frame.payload));
      process_.timers.told(m);
      return tend_timers();
    }
    case FrameType::kThreads: {
      DROVER_TRY(const auto m, ThreadsMessage::decode(frame.payload));
      return on_threads(m);
    }
    case FrameType::kNeedHome: {
      DROVER_TRY(const auto m, decode_record<NeedHome>(frame.payload, "need home"));
      HomeEvent event;
      event.call = m.call;
      event.words = m.call >= 0                    ? std::string(syscall_name(m.call))
                    : m.call == NeedHome::kSignals ? kTooManySignals
                                                   : "a fault in the program";
      if (m.call >= 0) ++process_.counters->calls[m.call].forced_home;
      process_.event = event;
      return {};
    }
    case FrameType::kFatal: {
      DROVER_TRY(const auto m, FatalMessage::decode(frame.payload));
      return on_fatal(m);
    }
    default:
      return refusal("unexpected message " + std::to_string(frame.type) + " from the guest");
  }
}

Status HomeServer::on_exit(const ExitMessage& message) {
  DROVER_TRY(HomeThread* const thread, this->thread(message.tid));
  const bool alone = threads_.size() == 1;
  if (message.whole_process != 0 || alone) return thread->exit_process(message.status);
  if (thread == &leader()) return refusal("the leading thread cannot end away");
  return end_thread(*thread);
}

// What it was to have of the process's signals, another one has.
Status HomeServer::end_thread(HomeThread& thread) {
  process_.effects.happened("the end of a thread");
  DROVER_CHECK(thread.exit());
  for (const siginfo_t& info : thread.untold()) {
    if (!is_for_thread(info, process_.memory->pid())) leader().untold().push_back(info);
  }
  process_.timers.thread_ended(thread.tid());
  const HollowThread* const hollow = &thread.hollow();
  threads_.remove_if([&](const HomeThread& other) { return &other == &thread; });
  process_.threads->remove_if([&](const HollowThread& other) { return &other == hollow; });
  return {};
}

Status HomeServer::on_threads(const ThreadsMessage& message) {
  for (auto next = std::next(threads_.begin()); next != threads_.end();) {
    HomeThread& thread = *next++;
    const bool lives = std::ranges::find(message.tids, thread.tid()) != message.tids.end();
    if (!lives) DROVER_CHECK(end_thread(thread));
  }
  return {};
}

void HomeServer::take_up_made() {
  if (HollowThread* const made = std::exchange(process_.made, nullptr)) {
    threads_.emplace_back(*made, process_);
  }
}

Status HomeServer::on_fatal(const FatalMessage& message) {
  DROVER_CHECK(leader().hollow().stop());
  process_.files.forget_all();
  process_.ending = true;
  if (leader().hollow().state() == HollowThread::State::kGone) return {};
  return leader().hollow().begin_to_die(message.info.si_signo);
}

Status HomeServer::look() {
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.look());
  DROVER_CHECK(notice_end());
  DROVER_CHECK(follow_stop());
  DROVER_CHECK(tend_timers());
  return notice_end();
}

// The leading thread's end is told last.
Status HomeServer::notice_end() {
  const auto gone = [](HomeThread& thread) {
    return thread.hollow().state() == HollowThread::State::kGone;
  };
  if (!process_.ending && std::ranges::none_of(threads_, gone)) return {};
  if (process_.event && process_.event->kind == HomeEvent::Kind::kEnded) return {};
  process_.ending = true;
  process_.files.forget_all();
  for (HomeThread& thread : threads_) {
    if (&thread != &leader()) DROVER_CHECK(thread.hollow().await_end());
  }
  DROVER_CHECK(leader().hollow().await_end());
  HomeEvent event;
  event.kind = HomeEvent::Kind::kEnded;
  event.wait_status = leader().hollow().wait_status();
  process_.event = event;
  return {};
}

Status HomeServer::rest() {
  const bool in_group_stop = stop_begun();
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.rest(in_group_stop));
  return {};
}

std::optional<std::chrono::milliseconds> HomeServer::deaf_patience() const {
  std::optional<std::chrono::nanoseconds> least;
  for (const HomeThread& thread : threads_) {
    const auto patience = thread.deaf_patience();
    if (patience && (!least || *patience < *least)) least = patience;
  }
  if (!least) return std::nullopt;
  return std::chrono::ceil<std::chrono::milliseconds>(*least);
}

void HomeServer::await_call(pid_t tid) {
  if (const auto found = thread(tid)) (*found)->await_call();
}

// What was taken from the thread since, and has not been told, comes after them.
Status HomeServer::take_back(pid_t tid, std::vector<siginfo_t> infos) {
  for (const siginfo_t& info : infos) {
    process_.effects.happened("signal " + std::to_string(info.si_signo));
  }
  const auto told = thread(tid);
  SignalMask kinds = 0;
  for (const siginfo_t& info : infos) kinds |= signal_bit(info.si_signo);
  if (told) {
    const auto is_younger = [&](const siginfo_t& other) {
      return (kinds & signal_bit(other.si_signo)) != 0;
    };
    std::ranges::copy_if((*told)->untold(), std::back_inserter(infos), is_younger);
    std::erase_if((*told)->untold(), is_younger);
  }
  std::vector<siginfo_t> to_process;
  std::erase_if(infos, [&](const siginfo_t& info) {
    const bool goes = !is_for_thread(info, process_.memory->pid());
    if (goes) to_process.push_back(info);
    return goes;
  });
  if (!to_process.empty()) DROVER_CHECK(leader().take_back(to_process));
  // What is sent to a thread ends with it.
  return told && !infos.empty() ? (*told)->take_back(infos) : Status{};
}

Status HomeServer::tell_of_changes() {
  process_.timers.notice_limit();
  return process_.limits.tell_changes(*process_.channel);
}

Status HomeServer::adopt_timers() {
  if (process_.channel->protocol() < 2) return {};
  timers_are_ours_ = true;
  return process_.timers.adopt(*process_.threads, *process_.memory);
}

Status HomeServer::give_back_timers(const std::optional<CpuUsedMessage>& last) {
  if (!std::exchange(timers_are_ours_, false)) return {};
  if (last) process_.timers.told(*last);
  return process_.timers.give_back(*process_.threads, *process_.memory);
}

Status HomeServer::give_back_timers_as_they_were() {
  process_.timers.forget_away();
  return give_back_timers({});
}

// In a stop nothing is used, and what was due before it comes after it.
Status HomeServer::tend_timers() {
  if (!timers_are_ours_ || process_.recalling || process_.event || process_.ending) return {};
  if (stop_begun()) return {};
  return process_.timers.tend(threads_, *process_.channel);
}

Status HomeServer::begin_recall() {
  process_.recalling = true;
  process_.files.forget_all();
  Status stopped;
  for (HomeThread& thread : threads_) {
    stopped = thread.hollow().stop();
    if (stopped) continue;
    thread.is_to_stop_late();
    break;
  }
  if (stopped) DROVER_CHECK(serve_kept());
  DROVER_CHECK(look());
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.end_unblocking());
  return stopped;
}

Status HomeServer::break_off() {
  process_.recalling = true;
  process_.files.forget_all();
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.break_off());
  return {};
}

Status HomeServer::notice_stop() {
  DROVER_CHECK(let_rest());
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.hollow().stop());
  return look();
}

Status HomeServer::notice_stop_without_body() {
  DROVER_CHECK(let_rest());
  return break_off();
}

Status HomeServer::let_rest() {
  for (HomeThread& thread : threads_) DROVER_CHECK(thread.hollow().park());
  return {};
}

std::vector<HollowThread*> HomeServer::resting() {
  std::vector<HollowThread*> found;
  for (HomeThread& thread : threads_) {
    const auto state = thread.hollow().state();
    const bool rests =
        state == HollowThread::State::kParked || state == HollowThread::State::kStopped;
    if (rests) found.push_back(&thread.hollow());
  }
  return found;
}

Status HomeServer::attach(SecureChannel& channel, bool stopped) {
  process_.channel = &channel;
  process_.limits.begin_anew();
  process_.timers.begin_anew();
  told_of_stop_ = stopped;
  for (HomeThread& thread : threads_) thread.begin_anew();
  if (channel.protocol() < 2) return give_back_timers({});
  return timers_are_ours_ ? Status{} : adopt_timers();
}

Status HomeServer::end_recall() {
  if (!process_.recalling) return {};
  process_.recalling = false;
  if (!timers_are_ours_) DROVER_CHECK(adopt_timers());
  for (HomeThread& thread : threads_) {
    // Also those that it blocks by now: what a handler blocks, the guest keeps until its end.
    for (const siginfo_t& info : std::exchange(thread.untold(), {})) {
      DROVER_CHECK(thread.tell_signal(info));
    }
    if (thread.goes_on()) thread.await_call();
  }
  DROVER_CHECK(notice_end());
  return rest();
}

std::optional<int> HomeServer::wait_status() const {
  const HollowThread& leader = process_.threads->front();
  if (leader.state() != HollowThread::State::kGone) return std::nullopt;
  return leader.wait_status();
}

std::vector<siginfo_t> HomeServer::untold(pid_t tid) const {
  for (const HomeThread& thread : threads_) {
    if (thread.tid() == tid) return thread.untold();
  }
  return {};
}

}  // namespace drover
