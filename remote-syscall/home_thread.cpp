#include "remote-syscall/home_thread.h"

#include <linux/magic.h>
#include <sched.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "common/process/memory_map.h"
#include "common/process/short_transfer.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kDeafPatience{1};
// A call that goes on comes at once, unless a signal is handled before it.
constexpr milliseconds kContinuedCallPatience{1000};

/// Reads P's scratch for the marshalling.
class ScratchReader final : public MemoryReader {
 public:
  explicit ScratchReader(const ForeignMemory& memory) : memory_(memory) {}
  Result<std::size_t> read(ForeignAddress from, std::span<std::byte> into) override {
    return memory_.read_some(from, into);
  }

 private:
  const ForeignMemory& memory_;
};

bool opens_a_file(int number) {
  return number == SYS_open || number == SYS_openat || number == SYS_openat2 || number == SYS_creat;
}

}  // namespace

bool is_made_again_after_eintr(int number) { return number != SYS_close; }

Status HomeThread::on_call(WireReader& reader) {
  const bool about_to_go_on = goes_on_;
  frame_came();
  goes_on_ = about_to_go_on;
  if (call_.active) return refusal("a second call of a thread that is in one");
  const auto sequence = reader.number<std::uint64_t>();
  if (sequence <= call_.sequence) return refusal("a call that was served already came again");
  call_.sequence = sequence;
  const auto signals_seen = reader.number<std::uint32_t>();
  has_seen(signals_seen);
  const bool goes_on = reader.number<std::uint8_t>() != 0;
  DROVER_CHECK(call_.request.decode(reader));
  call_.active = true;
  if (process_->recalling) return reply(CallEnd::kHeld, kErestartnointr);
  const CallClass kind =
      classify_call(call_.request.number, call_.request.arguments, process_->memory->pid());
  const bool makes_thread = is_clone(call_.request.number);
  if (kind != CallClass::kForwarded && kind != CallClass::kFollowed && !makes_thread) {
    return reply(CallEnd::kGoHome, 0);
  }
  if (!goes_on && !process_->event && signals_seen == signals_told_) {
    DROVER_TRY(const bool executed, executed_by_us());
    if (executed || !call_.active) return {};
  }
  // A signal that crossed the call on its way, or was there before it, comes first.
  if (thread_->state() == HollowThread::State::kParked) {
    DROVER_CHECK(thread_->stop());
    DROVER_CHECK(look());
    if (!call_.active || over()) return {};
  }
  if (process_->event) return reply(CallEnd::kHeld, kErestartnointr);
  if (signals_seen != signals_told_) return reply(CallEnd::kInterrupted, kErestartnointr);

  DROVER_CHECK(begins(goes_on));
  return makes_thread ? make_thread() : start(goes_on);
}

/// To be called before anybody executes the call.
Status HomeThread::begins(bool goes_on) {
  const auto on_regular = [this] {
    return process_->files.is_regular(static_cast<int>(call_.request.arguments[0]));
  };
  return process_->effects.call_begins(*thread_, call_.request, goes_on, on_regular);
}

// Of what the program asks for, P's has what matters at home; the rest the body's thread has.
Status HomeThread::make_thread() {
  constexpr std::uint64_t kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  const auto scratch = free_scratch();
  if (!scratch) return reply(CallEnd::kGoHome, 0);
  const std::uint64_t flags = kFlags | (call_.request.arguments[0] & CLONE_SYSVSEM);
  std::list<HollowThread>& threads = *process_->threads;
  DROVER_TRY(const std::int64_t result, thread_->make_another(*scratch, flags, threads));
  if (result >= 0) process_->made = &threads.back();
  return reply(CallEnd::kDone, result, result);
}

std::optional<Scratch> HomeThread::free_scratch() const {
  std::vector<bool> used(thread_->scratch().threads());
  for (const HollowThread& thread : *process_->threads) used[thread.scratch().thread()] = true;
  const auto free = std::ranges::find(used, false);
  if (free == used.end()) return std::nullopt;
  return thread_->scratch().of_thread(static_cast<std::size_t>(free - used.begin()));
}

Status HomeThread::start(bool goes_on) {
  call_.disturbed = false;
  signal_told_ = false;
  goes_on_ = false;
  call_.changes_descriptors = HomeFiles::is_changed_by(call_.request);
  call_.holds_position = HomeFiles::holds_position(call_.request);
  if (call_.changes_descriptors) ++process_->changing_descriptors;
  if (call_.holds_position) ++process_->holding_positions;
  process_->files.before_in_p(call_.request);
  call_.timer_change = process_->timers.before(call_.request);
  DROVER_CHECK(goes_on ? thread_->start_again(call_.request) : thread_->start(call_.request));
  // Short calls end at once: let P run, if it is on this CPU, before going to sleep.
  for (int i = 0; i < 3 && thread_->state() == HollowThread::State::kCalling; ++i) {
    sched_yield();
    DROVER_CHECK(thread_->look());
  }
  return look();
}

// P waits for signals meanwhile: one that comes is told after the call.
Result<bool> HomeThread::executed_by_us() {
  if (process_->changing_descriptors > 0) return false;
  if (process_->holding_positions > 0 && HomeFiles::holds_position(call_.request)) return false;
  const std::uint32_t told = signals_told_;
  DROVER_CHECK(look());
  if (over() || told != signals_told_ || process_->event) return false;
  if (!HomeFiles::is_of_a_file(call_.request)) return false;
  DROVER_CHECK(begins(false));
  const auto result = process_->files.execute(call_.request, out_);
  if (!result) return false;
  CallReply reply;
  reply.result = *result;
  pieces_.clear();
  if (!out_.empty()) {
    pieces_.push_back({call_.request.outs.front().offset, static_cast<std::uint32_t>(out_.size())});
  }
  reply.pieces = pieces_;
  reply.data = out_;
  ++process_->counters->calls[call_.request.number].served;
  goes_on_ = false;
  DROVER_CHECK(send_reply(CallEnd::kDone, reply));
  DROVER_CHECK(thread_->park());
  return true;
}

Status HomeThread::look() {
  if (over()) return {};
  DROVER_CHECK(thread_->look());
  call_.disturbed = thread_->take_disturbance() || call_.disturbed;
  if (const int signal = thread_->take_stop()) process_->effects.stops(signal);
  // First: a call that the stop cut short is begun again, and finds the signals.
  if (thread_->state() != HollowThread::State::kCalling) DROVER_CHECK(queue_given_back());
  while (!over()) {
    auto signal = thread_->take_signal();
    if (!signal) break;
    process_->timers.taken(signal->info);
    DROVER_CHECK(handle_signal(*signal));
  }
  if (over()) return {};
  if (const auto result = thread_->take_result()) DROVER_CHECK(settle_call(*result));
  return {};
}

// What a signal does to a call that is about to go on, the kernel shall say when P is in it: that
// may take a while, if a signal is handled before it.
void HomeThread::await_call() {
  goes_on_ = true;
  rest_at_ = Clock::now() + kContinuedCallPatience;
}

void HomeThread::frame_came() {
  goes_on_ = false;
  rest_at_ = Clock::now() + kDeafPatience;
}

Status HomeThread::rest(bool in_group_stop) {
  if (over() || thread_->state() != HollowThread::State::kStopped) return {};
  if (in_group_stop) return thread_->park();
  if (Clock::now() < rest_at_) return {};
  goes_on_ = false;
  return thread_->park();
}

std::optional<std::chrono::nanoseconds> HomeThread::deaf_patience() const {
  if (over() || thread_->state() != HollowThread::State::kStopped) return std::nullopt;
  return std::max(rest_at_ - Clock::now(), Clock::duration::zero());
}

Status HomeThread::settle_call(std::int64_t result) {
  if (!call_.active) return {};
  if (is_disturbed(result)) return disturbed(result);
  if (opens_a_file(call_.request.number) && result >= 0 && opened_own_memory(result)) {
    DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
    DROVER_CHECK(injection.call("close", SYS_close, {static_cast<std::uint64_t>(result)}));
    return reply(CallEnd::kGoHome, 0);
  }
  // With a signal that takes the process home it runs no further: what it is to do, it does there.
  return reply(process_->event ? CallEnd::kHeld : CallEnd::kDone, result, result);
}

bool HomeThread::is_disturbed(std::int64_t result) const {
  if (is_restart(result)) return true;
  if (signal_told_ || !(process_->recalling || call_.disturbed)) return false;
  const CallRequest& request = call_.request;
  if (result == -EINTR) return is_made_again_after_eintr(request.number);
  const bool complete =
      request.number != SYS_writev && result == static_cast<std::int64_t>(request.arguments[2]);
  return result > 0 && !complete && may_be_cut_short(request.number, request.arguments[3]) &&
         transfers_wait(process_->memory->pid(), static_cast<int>(request.arguments[0]));
}

// Ended by us, or by a signal that the program does not see: the body goes on with it.
Status HomeThread::disturbed(std::int64_t came_to) {
  const bool waits_in_thread = came_to == kErestartRestartblock && call_.request.number != SYS_poll;
  const bool later = process_->recalling || process_->event.has_value();
  await_call();
  std::int64_t goes_on = came_to;
  if (came_to == -EINTR || (came_to == kErestartRestartblock && !waits_in_thread)) {
    goes_on = kErestartnohand;
  }
  return reply(later ? CallEnd::kHeld : CallEnd::kDisturbed, goes_on, came_to);
}

/// Whether P's descriptor is a view of its own memory: of that only home itself has the truth.
bool HomeThread::opened_own_memory(std::int64_t fd) const {
  const std::string pid = std::to_string(process_->memory->pid());
  const std::string link = "/proc/" + pid + "/fd/" + std::to_string(fd);
  struct statfs fs {};
  if (statfs(link.c_str(), &fs) != 0 || fs.f_type != PROC_SUPER_MAGIC) return false;
  char target[256];
  const ssize_t n = readlink(link.c_str(), target, sizeof target);
  if (n <= 0) return false;
  const std::string_view path(target, static_cast<std::size_t>(n));
  if (!path.starts_with("/proc/" + pid + "/")) return false;
  const std::string_view name = path.substr(path.rfind('/') + 1);
  for (const char* own :
       {"cmdline", "environ", "auxv", "maps", "smaps", "smaps_rollup", "numa_maps", "pagemap",
        "mem", "map_files", "clear_refs", "syscall", "stack", "wchan"}) {
    if (name == own) return true;
  }
  return false;
}

// `came_to` is what the kernel made of it, if it was executed: by that is known what was written.
Status HomeThread::reply(CallEnd end, std::int64_t result, std::optional<std::int64_t> came_to) {
  CallReply reply;
  reply.result = result;
  const bool began = came_to && *came_to != kErestartnointr;
  if (began) {
    ScratchReader reader(*process_->memory);
    const ForeignAddress data = thread_->scratch().data();
    DROVER_TRY(const std::size_t total,
               pieces_to_return(call_.request, *came_to, reader, data, pieces_));
    out_.resize(total);
    std::size_t at = 0;
    for (const Piece& piece : pieces_) {
      DROVER_CHECK(
          process_->memory->read(data + piece.offset, std::span(out_).subspan(at, piece.length)));
      at += piece.length;
    }
    process_->timers.after(call_.request, tid(), call_.timer_change, reply.result, pieces_, out_);
    reply.pieces = pieces_;
    reply.data = out_;
  }
  if (began && *came_to == 0 && HomeLimits::are_changed_by(call_.request.number)) {
    DROVER_CHECK(process_->limits.tell_changes(*process_->channel));
  }
  if (began && *came_to == 0 && HomeSchedules::are_changed_by(call_.request.number)) {
    DROVER_CHECK(HomeSchedules::tell(call_.request, tid(), *process_->threads, *process_->channel));
  }
  if (end == CallEnd::kInterrupted) goes_on_ = false;
  if (began) ++process_->counters->calls[call_.request.number].served;
  if (end == CallEnd::kGoHome) ++process_->counters->calls[call_.request.number].forced_home;
  return send_reply(end, reply);
}

Status HomeThread::send_reply(CallEnd end, CallReply& reply) {
  WireWriter head;
  OutcomeHead{tid(), call_.sequence, end}.encode(head);
  reply.encode_head(head);
  call_is_over();
  rest_at_ = Clock::now() + (goes_on_ ? kContinuedCallPatience : kDeafPatience);
  return process_->channel->send(static_cast<std::uint16_t>(FrameType::kReply), head.data(),
                                 reply.data);
}

void HomeThread::call_is_over() {
  call_.active = false;
  if (std::exchange(call_.changes_descriptors, false)) --process_->changing_descriptors;
  if (std::exchange(call_.holds_position, false)) --process_->holding_positions;
}

Status HomeThread::exit_process(int status) {
  process_->files.forget_all();
  DROVER_CHECK(thread_->stop());
  process_->ending = true;
  if (thread_->state() == HollowThread::State::kGone) return {};
  CallRequest request;
  request.number = SYS_exit_group;
  request.arguments = {static_cast<std::uint64_t>(status)};
  DROVER_CHECK(thread_->thread().set_signal_mask(kAllSignals));
  ++process_->counters->calls[SYS_exit_group].served;
  return thread_->start_to_end(request);
}

Status HomeThread::exit() {
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());  // a signal that it has got is another thread's
  if (over()) return {};
  CallRequest request;
  request.number = SYS_exit;
  DROVER_CHECK(thread_->thread().set_signal_mask(kAllSignals));
  ++process_->counters->calls[SYS_exit].served;
  DROVER_CHECK(thread_->start_to_end(request));
  return thread_->await_end();
}

bool HomeThread::idle() const {
  const HollowThread::State state = thread_->state();
  return !over() && !call_.active &&
         (state == HollowThread::State::kParked || state == HollowThread::State::kStopped);
}

Result<bool> HomeThread::stop_for_us() {
  if (process_->recalling || process_->event || !idle()) return false;
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  return idle() && !process_->event && thread_->state() == HollowThread::State::kStopped &&
         !thread_->in_group_stop();
}

Result<std::optional<std::int64_t>> HomeThread::make_own_call(CallRequest& request) {
  DROVER_TRY(const bool stopped, stop_for_us());
  if (!stopped) return std::optional<std::int64_t>();
  process_->effects.happened("a timer by CPU time that expired");
  DROVER_TRY(const auto result, thread_->call(request));
  DROVER_CHECK(look());
  return result;
}

Status HomeThread::disturb() {
  if (!call_.active || thread_->state() != HollowThread::State::kCalling) return {};
  call_.disturbed = true;
  return thread_->begin_to_stop();
}

Status HomeThread::break_off() {
  begin_anew();
  DROVER_CHECK(thread_->stop());
  untold_.insert(untold_.end(), given_back_.begin(), given_back_.end());
  given_back_.clear();
  while (const auto signal = thread_->take_signal()) untold_.push_back(signal->info);
  return {};
}

void HomeThread::begin_anew() {
  call_is_over();
  call_ = {};
  signals_told_ = 0;
  in_flight_.clear();
}

}  // namespace drover
