#include "remote-syscall/home_server.h"

#include <linux/magic.h>
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
constexpr milliseconds kDelivery{20};
// A call that goes on comes at once, unless a signal is handled before it.
constexpr milliseconds kContinuedCallPatience{1000};
constexpr std::uint64_t kSigDfl = 0;
constexpr std::uint64_t kSigIgn = 1;

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

/// Whether the process has a limit of cores above 0; not if it has just ended. Not by prlimit(2),
/// which asks for more rights over it than a deputy has.
bool leaves_cores(pid_t pid) {
  const auto limits = read_proc_file("/proc/" + std::to_string(pid) + "/limits");
  constexpr std::string_view kRow = "Max core file size";
  const auto row = limits ? limits->find(kRow) : std::string::npos;
  if (row == std::string::npos) return false;
  const auto value = limits->find_first_not_of(' ', row + kRow.size());
  return value != std::string::npos && limits->compare(value, 2, "0 ") != 0;
}

bool opens_a_file(int number) {
  return number == SYS_open || number == SYS_openat || number == SYS_openat2 || number == SYS_creat;
}

}  // namespace

bool is_made_again_after_eintr(int number) { return number != SYS_close; }

DefaultAction default_action(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case SIGCONT:
      return DefaultAction::kIgnore;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::kStop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGXCPU:
    case SIGXFSZ:
    case SIGSYS:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

HomeServer::HomeServer(HollowThread& thread, const ForeignMemory& memory, SecureChannel& channel,
                       const std::array<KernelSigaction, kSignalCount>& actions,
                       CallCounters& counters)
    : thread_(&thread),
      memory_(&memory),
      files_(memory.pid()),
      channel_(&channel),
      actions_(actions),
      counters_(&counters) {}

std::optional<HomeEvent> HomeServer::take_event() { return std::exchange(event_, {}); }

Status HomeServer::on_frame(const Frame& frame) {
  WireReader r(frame.payload);
  const bool about_to_go_on = std::exchange(goes_on_, false);
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kCall:
      goes_on_ = about_to_go_on;
      return on_call(r);
    case FrameType::kMask: {
      DROVER_TRY(const auto m, decode_record<MaskMessage>(frame.payload, "mask"));
      goes_on_ = about_to_go_on && is_known(m);
      return goes_on_ ? Status{} : on_mask(m);
    }
    case FrameType::kAction: {
      DROVER_TRY(const auto m, ActionMessage::decode(frame.payload));
      goes_on_ = about_to_go_on && is_known(m);
      return is_known(m) ? Status{} : on_action(m);
    }
    case FrameType::kSignal: {
      DROVER_TRY(const auto m, SignalMessage::decode(frame.payload));
      return take_back(m.info);
    }
    case FrameType::kExit: {
      DROVER_TRY(const auto m, decode_record<ExitMessage>(frame.payload, "exit"));
      return on_exit(m);
    }
    case FrameType::kNeedHome: {
      DROVER_TRY(const auto m, decode_record<NeedHome>(frame.payload, "need home"));
      HomeEvent event;
      event.call = m.call;
      event.words = m.call >= 0 ? std::string(syscall_name(m.call)) : "a fault in the program";
      if (m.call >= 0) ++counters_->calls[m.call].forced_home;
      event_ = event;
      return {};
    }
    case FrameType::kFatal: {
      DROVER_TRY(const auto m, FatalMessage::decode(frame.payload));
      DROVER_CHECK(thread_->stop());
      if (thread_->state() != HollowThread::State::kGone) {
        files_.forget_all();
        DROVER_CHECK(thread_->die(m.info.si_signo));
      }
      return ended();
    }
    default:
      return refusal("unexpected message " + std::to_string(frame.type) + " from the guest");
  }
}

Status HomeServer::on_call(WireReader& reader) {
  if (call_.active) return refusal("a second call of a thread that is in one");
  call_.tid = reader.number<std::int32_t>();
  const auto sequence = reader.number<std::uint64_t>();
  if (sequence <= call_.sequence) return refusal("a call that was served already came again");
  call_.sequence = sequence;
  const auto signals_seen = reader.number<std::uint32_t>();
  const bool goes_on = reader.number<std::uint8_t>() != 0;
  DROVER_CHECK(call_.request.decode(reader));
  call_.active = true;
  if (recalling_) return reply(CallEnd::kHeld, kErestartnointr);
  const CallClass kind =
      classify_call(call_.request.number, call_.request.arguments, memory_->pid());
  if (kind != CallClass::kForwarded && kind != CallClass::kBody) {
    return reply(CallEnd::kGoHome, 0);
  }
  if (!goes_on && !event_ && signals_seen == signals_told_) {
    DROVER_TRY(const bool executed, executed_by_us());
    if (executed || !call_.active) return {};
  }
  // A signal that crossed the call on its way, or was there before it, comes first.
  if (thread_->state() == HollowThread::State::kParked) {
    DROVER_CHECK(thread_->stop());
    DROVER_CHECK(look());
    if (!call_.active || thread_->state() == HollowThread::State::kGone) return {};
  }
  if (event_) return reply(CallEnd::kHeld, kErestartnointr);
  if (signals_seen != signals_told_) return reply(CallEnd::kInterrupted, kErestartnointr);

  call_.disturbed = false;
  signal_told_ = false;
  goes_on_ = false;
  files_.before_in_p(call_.request);
  DROVER_CHECK(goes_on ? thread_->start_again(call_.request) : thread_->start(call_.request));
  // Short calls end at once: let P run, if it is on this CPU, before going to sleep.
  for (int i = 0; i < 3 && thread_->state() == HollowThread::State::kCalling; ++i) {
    sched_yield();
    DROVER_CHECK(thread_->look());
  }
  return look();
}

// P waits for signals meanwhile: one that comes is told after the call.
Result<bool> HomeServer::executed_by_us() {
  const std::uint32_t told = signals_told_;
  DROVER_CHECK(look());
  if (thread_->state() == HollowThread::State::kGone || told != signals_told_ || event_) {
    return false;
  }
  const auto result = files_.execute(call_.request, out_);
  if (!result) return false;
  CallReply reply;
  reply.result = *result;
  pieces_.clear();
  if (!out_.empty()) {
    pieces_.push_back({call_.request.outs.front().offset, static_cast<std::uint32_t>(out_.size())});
  }
  reply.pieces = pieces_;
  reply.data = out_;
  ++counters_->calls[call_.request.number].served;
  goes_on_ = false;
  DROVER_CHECK(send_reply(CallEnd::kDone, reply));
  DROVER_CHECK(thread_->park());
  return true;
}

Status HomeServer::look() {
  DROVER_CHECK(thread_->look());
  while (const auto signal = thread_->take_signal()) DROVER_CHECK(handle_signal(*signal));
  if (thread_->state() == HollowThread::State::kGone) return ended();
  if (const auto result = thread_->take_result()) DROVER_CHECK(settle_call(*result));
  return {};
}

// What a signal does to a call that is about to go on, the kernel shall say when P is in it.
Status HomeServer::rest() {
  if (goes_on_ && Clock::now() - goes_on_since_ < kContinuedCallPatience) return {};
  goes_on_ = false;
  return thread_->park();
}

milliseconds HomeServer::deaf_patience() const {
  if (!goes_on_) return kDeafPatience;
  const auto left = kContinuedCallPatience - (Clock::now() - goes_on_since_);
  return std::max(kDeafPatience, std::chrono::ceil<milliseconds>(left));
}

Status HomeServer::settle_call(std::int64_t result) {
  if (!call_.active) return {};
  if (is_disturbed(result)) return disturbed(result);
  if (opens_a_file(call_.request.number) && result >= 0 && opened_own_memory(result)) {
    DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
    DROVER_CHECK(injection.call("close", SYS_close, {static_cast<std::uint64_t>(result)}));
    return reply(CallEnd::kGoHome, 0);
  }
  // With a signal that takes the process home it runs no further: what it is to do, it does there.
  return reply(event_ ? CallEnd::kHeld : CallEnd::kDone, result, result);
}

bool HomeServer::is_disturbed(std::int64_t result) const {
  if (is_restart(result)) return true;
  if (signal_told_ || !(recalling_ || call_.disturbed)) return false;
  const CallRequest& request = call_.request;
  if (result == -EINTR) return is_made_again_after_eintr(request.number);
  const bool complete =
      request.number != SYS_writev && result == static_cast<std::int64_t>(request.arguments[2]);
  return result > 0 && !complete && may_be_cut_short(request.number, request.arguments[3]) &&
         transfers_wait(memory_->pid(), static_cast<int>(request.arguments[0]));
}

// Ended by us, or by a signal that the program does not see: the body goes on with it.
Status HomeServer::disturbed(std::int64_t came_to) {
  const bool waits_in_thread = came_to == kErestartRestartblock && call_.request.number != SYS_poll;
  const bool later = recalling_ || event_.has_value();
  await_call();
  std::int64_t goes_on = came_to;
  if (came_to == -EINTR || (came_to == kErestartRestartblock && !waits_in_thread)) {
    goes_on = kErestartnohand;
  }
  return reply(later ? CallEnd::kHeld : CallEnd::kDisturbed, goes_on, came_to);
}

/// Whether P's descriptor is a view of its own memory: of that only home itself has the truth.
bool HomeServer::opened_own_memory(std::int64_t fd) const {
  const std::string pid = std::to_string(memory_->pid());
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
Status HomeServer::reply(CallEnd end, std::int64_t result, std::optional<std::int64_t> came_to) {
  CallReply reply;
  reply.result = result;
  const bool began = came_to && *came_to != kErestartnointr;
  if (began) {
    ScratchReader reader(*memory_);
    const ForeignAddress data = thread_->scratch().data();
    DROVER_TRY(const std::size_t total,
               pieces_to_return(call_.request, *came_to, reader, data, pieces_));
    out_.resize(total);
    std::size_t at = 0;
    for (const Piece& piece : pieces_) {
      DROVER_CHECK(memory_->read(data + piece.offset, std::span(out_).subspan(at, piece.length)));
      at += piece.length;
    }
    reply.pieces = pieces_;
    reply.data = out_;
  }
  if (end == CallEnd::kInterrupted) goes_on_ = false;
  if (began) ++counters_->calls[call_.request.number].served;
  if (end == CallEnd::kGoHome) ++counters_->calls[call_.request.number].forced_home;
  return send_reply(end, reply);
}

Status HomeServer::send_reply(CallEnd end, CallReply& reply) {
  WireWriter head;
  OutcomeHead{call_.tid, call_.sequence, end}.encode(head);
  reply.encode_head(head);
  call_.active = false;
  return channel_->send(static_cast<std::uint16_t>(FrameType::kReply), head.data(), reply.data);
}

Status HomeServer::tell_signal(const siginfo_t& info) {
  SignalMessage message;
  message.tid = thread_->tid();
  message.info = info;
  signal_told_ = true;
  ++signals_told_;
  return channel_->send(static_cast<std::uint16_t>(FrameType::kSignal), encode_record(message));
}

Status HomeServer::handle_signal(const TakenSignal& signal) {
  const int number = signal.info.si_signo;
  const KernelSigaction& action = actions_[static_cast<std::size_t>(number - 1)];
  const DefaultAction by_default = default_action(number);
  const bool is_default = action.handler == kSigDfl || number == SIGSTOP;
  const bool ignored =
      action.handler == kSigIgn || (is_default && by_default == DefaultAction::kIgnore);

  // The body waits for the end of a call: the signal that came with it belongs to that end.
  const bool ends_call = call_.active && (signal.interrupted || thread_->has_result());
  if (recalling_ && (is_default || ignored || !(ends_call || telling_pending_))) {
    if (!ignored) untold_.push_back(signal.info);
    if (signal.interrupted) DROVER_CHECK(settle_call(*signal.interrupted));
    return thread_->cancel();
  }
  if (ignored) {
    if (!signal.interrupted) {
      call_.disturbed = true;
      return {};
    }
    return signal.cancelled ? settle_call(*signal.interrupted) : thread_->go_on();
  }
  if (!is_default) {
    DROVER_CHECK(tell_signal(signal.info));
    if (!signal.interrupted) return {};
    DROVER_CHECK(thread_->cancel());
    return reply(CallEnd::kInterrupted, *signal.interrupted, *signal.interrupted);
  }
  const bool dumps = by_default == DefaultAction::kCore && leaves_cores(memory_->pid());
  if (by_default == DefaultAction::kStop || dumps) {
    HomeEvent event;
    event.words = "signal " + std::to_string(number);
    // A stop by the terminal comes again when the call is made again, at home.
    if (!(signal.interrupted && (number == SIGTTIN || number == SIGTTOU))) {
      event.raise = signal.info;
    }
    event_ = event;
    if (signal.interrupted) {
      DROVER_CHECK(thread_->cancel());
      return disturbed(*signal.interrupted);
    }
    return {};
  }
  files_.forget_all();
  DROVER_CHECK(thread_->die(number));
  return ended();
}

Status HomeServer::ended() {
  files_.forget_all();
  HomeEvent event;
  event.kind = HomeEvent::Kind::kEnded;
  event.wait_status = thread_->wait_status();
  event_ = event;
  return {};
}

// A signal that the body could not take any more: it is pending again, and P is asked anew.
Status HomeServer::take_back(const siginfo_t& info) {
  if (recalling_) {
    untold_.push_back(info);
    return {};
  }
  call_.disturbed = true;
  DROVER_CHECK(thread_->stop());
  if (thread_->state() == HollowThread::State::kStopped) {
    DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
    const ForeignAddress at = thread_->scratch().data();
    DROVER_TRY(const auto borrowed, memory_->read_record<siginfo_t>(at));
    DROVER_CHECK(memory_->write_record(at, info));
    DROVER_CHECK(injection.call("rt_sigqueueinfo", SYS_rt_sigqueueinfo,
                                {static_cast<std::uint64_t>(memory_->pid()),
                                 static_cast<std::uint64_t>(info.si_signo), at.value()}));
    DROVER_CHECK(memory_->write_record(at, borrowed));
    DROVER_CHECK(injection.end());
  }
  // Only now: a call that the stop cut short is begun again, and finds the signal.
  return look();
}

// A guest that has taken a body over says all of it anew.
bool HomeServer::is_known(const ActionMessage& message) const {
  return actions_[static_cast<std::size_t>(message.signal - 1)] == message.action;
}

bool HomeServer::is_known(const MaskMessage& message) const {
  if (message.wants_answer != 0 || thread_->state() != HollowThread::State::kStopped) return false;
  const auto mask = thread_->thread().signal_mask();
  return mask && *mask == message.mask;
}

Status HomeServer::on_action(const ActionMessage& message) {
  actions_[static_cast<std::size_t>(message.signal - 1)] = message.action;
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  if (thread_->state() != HollowThread::State::kStopped) return {};
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  const ForeignAddress at = thread_->scratch().data();
  DROVER_CHECK(memory_->write_record(at, message.action));
  DROVER_CHECK(injection.call("rt_sigaction", SYS_rt_sigaction,
                              {static_cast<std::uint64_t>(message.signal), at.value(), 0, 8}));
  return {};
}

Status HomeServer::on_mask(const MaskMessage& message) {
  DROVER_CHECK(thread_->stop());
  DROVER_CHECK(look());
  if (thread_->state() != HollowThread::State::kStopped) return {};
  DROVER_CHECK(thread_->thread().set_signal_mask(message.mask));
  if (message.wants_answer == 0) return {};
  DROVER_CHECK(tell_pending(message.mask));
  if (thread_->state() == HollowThread::State::kGone) return {};
  return channel_->send(static_cast<std::uint16_t>(FrameType::kMaskSet), {});
}

Status HomeServer::tell_pending(SignalMask mask) {
  telling_pending_ = true;
  Status told = take_pending(mask);
  telling_pending_ = false;
  return told;
}

// Lets P run for as long as it takes each signal that is pending and not blocked any more.
Status HomeServer::take_pending(SignalMask mask) {
  while (!event_ && thread_->state() != HollowThread::State::kGone) {
    DROVER_TRY(const SignalMask pending, pending_signals(memory_->pid()));
    if ((pending & ~mask) == 0) break;
    DROVER_CHECK(thread_->park());
    DROVER_TRY(const bool taken, thread_->await_stop(kDelivery));
    if (!taken) DROVER_CHECK(thread_->stop());  // it has vanished, as a stop does by a SIGCONT
    DROVER_CHECK(look());
  }
  return {};
}

Status HomeServer::on_exit(const ExitMessage& message) {
  files_.forget_all();
  DROVER_CHECK(thread_->stop());
  if (thread_->state() == HollowThread::State::kGone) return ended();
  CallRequest request;
  request.number = SYS_exit_group;
  request.arguments = {static_cast<std::uint64_t>(message.status)};
  DROVER_CHECK(thread_->thread().set_signal_mask(kAllSignals));
  ++counters_->calls[SYS_exit_group].served;
  DROVER_CHECK(thread_->start(request));
  while (thread_->state() == HollowThread::State::kCalling) {
    DROVER_CHECK(thread_->await_stop());
    if (thread_->take_signal()) DROVER_CHECK(thread_->go_on());
  }
  return ended();
}

Status HomeServer::begin_recall() {
  DROVER_CHECK(thread_->stop());
  recalling_ = true;
  files_.forget_all();
  return look();
}

void HomeServer::attach(SecureChannel& channel) {
  channel_ = &channel;
  call_ = {};
  signals_told_ = 0;
}

Status HomeServer::end_recall() {
  if (!recalling_) return {};
  recalling_ = false;
  DROVER_TRY(const SignalMask mask, thread_->thread().signal_mask());
  for (const siginfo_t& info : take_untold()) {
    const bool blocked = (mask & signal_bit(info.si_signo)) != 0;
    DROVER_CHECK(blocked ? take_back(info) : tell_signal(info));
  }
  if (goes_on_) await_call();
  return rest();
}

}  // namespace drover
