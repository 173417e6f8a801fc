#include "migrate/kept_process.h"

#include "migrate/untold_signals.h"

namespace drover {

KeptProcess::KeptProcess(AwayProcess& process, HomeServer& server, std::function<void()> meanwhile)
    : process_(&process), server_(&server), meanwhile_(std::move(meanwhile)) {
  SignalMask blocked = 0;
  for (const ThreadState& thread : process.kept_state->threads) blocked |= thread.mask;
  server.effects().watch(process.kept_state->actions, blocked);
  server.effects().before_calls([this](HollowThread& thread) { return before_call(thread); });
}

std::string KeptProcess::why_not() const {
  if (given_up_) return *given_up_;
  const auto& effect = server_->effects().first();
  return effect ? *effect + " cannot be undone" : "";
}

void KeptProcess::forgo(const std::string& why) {
  if (!given_up_) given_up_ = why;
}

void KeptProcess::give_up(const std::string& why) {
  forgo(why);
  drop_.reset();
  dropped_ = true;
}

// A call may take as long as it likes, and only a thread that is in none can drop memory. So the
// last one that rests drops all that is left; otherwise calls go first.
Status KeptProcess::before_call(HollowThread& thread) {
  if (dropped_ || server_->resting().size() > 1) return {};
  while (!dropped_ && thread.state() != HollowThread::State::kGone) {
    DROVER_CHECK(drop_next(thread));
    meanwhile_();
  }
  return {};
}

Result<bool> KeptProcess::drop_some() {
  if (whole() || dropped_ || server_->stop_begun()) return false;
  const auto resting = server_->resting();
  if (resting.empty()) return false;
  DROVER_CHECK(drop_next(*resting.front()));
  return !dropped_;
}

Status KeptProcess::drop_next(HollowThread& thread) {
  if (!drop_) {
    DROVER_TRY(drop_, MemoryDrop::of(process_->pid, thread.scratch(), process_->kept_pages));
  }
  DROVER_CHECK(thread.state() == HollowThread::State::kParked ? thread.stop() : Status{});
  if (thread.state() != HollowThread::State::kStopped) return {};
  if (!drop_->done()) {
    DROVER_TRY(Injection injection, Injection::trapping(thread.thread(), thread.scratch()));
    DROVER_CHECK(drop_->drop_next(injection));
    DROVER_CHECK(injection.end());
  }
  if (!drop_->done()) return {};
  drop_.reset();
  dropped_ = true;
  return {};
}

// Not one that P has a handler for by now: nothing of the program may run here.
int KeptProcess::fatal_signal() const {
  const pid_t pid = process_->pid;
  const auto pending = pending_signals(pid);
  const auto caught = caught_signals(pid);
  if (!pending || !caught) return 0;
  SignalMask waiting = *pending;
  for (const siginfo_t& info : server_->untold(pid)) waiting |= signal_bit(info.si_signo);
  waiting &= ~(*caught | process_->kept_state->threads.front().mask);
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    const bool by_default =
        process_->kept_state->actions[static_cast<std::size_t>(signal - 1)].handler == 0;
    const bool ends = by_default && default_action(signal) == DefaultAction::kTerminate;
    if (ends && (waiting & signal_bit(signal)) != 0) return signal;
  }
  return 0;
}

Status KeptProcess::put_back() {
  ProcessState state = *process_->kept_state;
  for (ThreadState& thread : state.threads) {
    // It was in a sleep of which only the kernel knows the rest, and that was over when it began
    // another call: the kernel may know of that one now.
    const bool slept = static_cast<std::int64_t>(thread.registers.rax) == kErestartRestartblock;
    if (slept && server_->effects().has_called(thread.tid)) thread.registers.rax = 0;
  }
  DROVER_CHECK(server_->notice_stop_without_body());
  add_untold(state, *server_);
  HomeRebuild rebuild(process_->threads, process_->memory, process_->contents,
                      process_->kept_pages);
  DROVER_CHECK(rebuild.load(state));
  DROVER_CHECK(server_->give_back_timers_as_they_were());
  return rebuild.finish(state);
}

}  // namespace drover
