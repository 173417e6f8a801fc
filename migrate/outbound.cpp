#include "migrate/outbound.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>

#include "common/fault.h"
#include "common/log.h"
#include "common/process/continued_call.h"
#include "common/process/interrupted_sleep.h"
#include "common/process/short_transfer.h"
#include "common/process/timed_wait.h"
#include "common/sha256.h"
#include "common/tls_socket.h"
#include "migrate/body_end.h"
#include "migrate/content_transfer.h"
#include "migrate/jobs_process.h"
#include "migrate/page_stream.h"
#include "remote-syscall/disturbed_call.h"
#include "remote-syscall/home_server.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kBuildPatience{60};
constexpr std::chrono::seconds kRunPatience{5};
/// Between two looks at the process while a guest is waited for.
constexpr std::chrono::milliseconds kGlance{500};

Result<Identity> identity_of(pid_t pid, const std::string& job, const std::string& home) {
  DROVER_TRY(const std::string status, read_proc_file("/proc/" + std::to_string(pid) + "/status"));
  Identity identity;
  identity.job = job;
  identity.home_node = home;
  identity.pid = pid;
  const auto number_after = [&](const char* key) -> std::uint32_t {
    const auto at = status.find(key);
    return at == std::string::npos ? ~0U
                                   : static_cast<std::uint32_t>(std::strtoul(
                                         status.c_str() + at + std::strlen(key), nullptr, 10));
  };
  identity.uid = number_after("\nUid:");
  identity.gid = number_after("\nGid:");
  utsname names{};
  uname(&names);
  identity.host_name = names.nodename;
  identity.domain_name = names.domainname;
  identity.possible_cpus = static_cast<std::uint32_t>(sysconf(_SC_NPROCESSORS_CONF));
  return identity;
}

/// Whether the process is in our time namespace (time_namespaces(7)).
bool shares_our_clocks(pid_t pid) {
  struct stat its {
  }, ours{};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/time";
  return stat(path.c_str(), &its) == 0 && stat("/proc/self/ns/time", &ours) == 0 &&
         its.st_ino == ours.st_ino && its.st_dev == ours.st_dev;
}

Error another_program() { return refusal("it has become another program meanwhile: try again"); }

}  // namespace

Outbound::Outbound(pid_t pid, std::string job, std::string home_node, bool root_allowed,
                   Commit lease, SecureChannel& channel)
    : pid_(pid),
      job_(std::move(job)),
      home_node_(std::move(home_node)),
      root_allowed_(root_allowed),
      lease_(lease),
      channel_(&channel),
      process_(std::make_unique<AwayProcess>()) {}

Outbound::~Outbound() {
  if (!committed_) undo();
}

Result<std::unique_ptr<AwayProcess>> Outbound::make() {
  DROVER_CHECK(fault_point("deputy.outbound.connected"));
  DROVER_CHECK(open_memory());
  if (const Status sent = send_in_advance(); !sent) {
    return is_another_program() ? another_program() : sent.error();
  }
  DROVER_CHECK(fault_point("deputy.outbound.contents-sent"));
  DROVER_CHECK(freeze());
  DROVER_CHECK(send_image());
  DROVER_CHECK(agree());
  DROVER_CHECK(commit());
  figures_.freeze = Clock::now() - frozen_at_;
  DROVER_CHECK(hollow_out());
  return std::move(process_);
}

Status Outbound::open_memory() {
  process_->pid = pid_;
  DROVER_TRY(process_->memory, ForeignMemory::of(pid_));
  const std::string path = "/proc/" + std::to_string(pid_) + "/pagemap";
  OwnedFd pagemap(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap) return errno_error("open " + path);
  DROVER_TRY(process_->pages, PageMap::over(std::move(pagemap)));
  return {};
}

// Only now: a traced process would wait for us with every signal that it gets.
Status Outbound::seize() {
  auto thread = TracedThread::seize(pid_, PTRACE_O_TRACESYSGOOD);
  if (!thread && thread.error().code == ESRCH) return refusal("the process has ended");
  DROVER_TRY(thread_, std::move(thread));
  seized_ = true;
  return {};
}

// While the process still runs: who it is, and the contents of its file mappings.
Status Outbound::send_in_advance() {
  DROVER_TRY(const auto areas, read_memory_areas(pid_));
  DROVER_CHECK(check_areas_can_move(areas));
  DROVER_TRY(Identity identity, identity_of(pid_, job_, home_node_));
  DROVER_TRY(vdso_, find_vdso(areas));
  DROVER_TRY(identity.vdso_digest, digest_of_vdso(process_->memory, vdso_));
  DROVER_CHECK(channel_->send(type(FrameType::kIdentity), identity.encode()));
  return send_new_contents(areas);
}

// In the midst of an execve it is neither the one nor the other.
bool Outbound::is_another_program() const {
  if (process_->memory.replaced()) return true;
  const auto areas = read_memory_areas(pid_);
  const auto vdso = areas ? find_vdso(*areas) : areas.error();
  return vdso && *vdso != vdso_;
}

Status Outbound::send_new_contents(const std::vector<MemoryArea>& areas) {
  const auto first = static_cast<std::uint32_t>(process_->contents.all().size());
  DROVER_TRY(const auto fresh,
             process_->contents.take_up(areas, process_->memory, *process_->pages));
  // The process may run, and change what it has mapped: whatever is sent is checked here as it
  // will be there.
  std::map<std::uint32_t, Sha256> digests;
  const auto read = [&](std::uint32_t index, std::uint64_t offset, std::span<std::byte> into) {
    const Status got = process_->contents.read(process_->memory, index, offset, into);
    if (!got) std::fill(into.begin(), into.end(), std::byte{0});
    digests[index].update(into);
    return Status{};
  };
  DROVER_TRY(const std::uint64_t sent, send_contents(*channel_, first, fresh, read));
  figures_.bytes += sent;
  for (auto& [index, digest] : digests) {
    if (digest.finish() != fresh[index - first].key) process_->contents.forget(index);
  }
  return {};
}

Status Outbound::freeze() {
  frozen_at_ = Clock::now();
  DROVER_CHECK(seize());
  DROVER_CHECK(thread_.interrupt());
  for (std::optional<Stop> met;;) {
    auto stopped = met ? Result<Stop>(*met) : thread_.wait_for_stop();
    met.reset();
    stops_ = stopped.ok();
    DROVER_TRY(const Stop stop, std::move(stopped));
    if (stop.gone()) return refusal("the process has ended");
    frozen_ = true;
    if (stop.kind == Stop::Kind::kInterrupt) {
      DROVER_TRY(const bool settled, settle_interrupted_call());
      if (settled) break;
      // Let go, it stops at the delivery of the signal that waits.
      DROVER_TRY(met, thread_.go_on_in_call());
      frozen_ = met.has_value();
      continue;
    }
    if (stop.kind == Stop::Kind::kGroupStop) return refusal("it is stopped by a signal");
    // A signal was on its way: the process takes it before it leaves.
    DROVER_CHECK(thread_.interrupt());
    DROVER_CHECK(thread_.resume(stop.kind == Stop::Kind::kSignal ? stop.signal : 0));
    frozen_ = false;
  }
  DROVER_CHECK(check_may_move());
  DROVER_TRY(const auto areas, read_memory_areas(pid_));
  DROVER_CHECK(check_areas_can_move(areas));
  DROVER_TRY(const ForeignRange vdso, find_vdso(areas));
  if (process_->memory.replaced() || vdso != vdso_) return another_program();
  DROVER_CHECK(open_memory());  // the page map may have been another program's
  DROVER_TRY(state_, capture_thread(thread_, process_->memory, vdso));
  DROVER_CHECK(fault_point("deputy.outbound.frozen"));
  return make_scratch();
}

// migrated has seen no objection, but the process has been running since.
Status Outbound::check_may_move() const {
  DROVER_TRY(const ProcessStatus process, read_process(pid_));
  const auto objections = objections_to_moving(process, root_allowed_, /*tracer_is_ours=*/true);
  if (!objections.empty()) return refusal("declined: " + objections.front());
  return {};
}

// A call that our stop has interrupted must not show it: the kernel restarts most by itself,
// but some give EINTR for any wake-up. False: a signal is waiting, which is to be taken first: it
// may be one that the program has just sent itself, and is handled before that call returns.
Result<bool> Outbound::settle_interrupted_call() {
  DROVER_TRY(Registers r, thread_.registers());
  const auto call = static_cast<std::int64_t>(r.orig_rax);
  const auto result = static_cast<std::int64_t>(r.rax);
  DROVER_TRY(const bool cut_short, is_cut_short(r, process_->memory));
  DROVER_TRY(const SignalMask mask, blocked_signals(pid_));
  DROVER_TRY(const SignalMask pending, pending_signals(pid_));
  const bool waits = (pending & ~mask) != 0;
  if (call < 0 || (!is_restart(result) && result != -EINTR && !cut_short)) return !waits;
  // But a wait that the kernel would resume from what it keeps could not be moved any more then.
  if (waits && result != kErestartRestartblock) return false;
  if (cut_short) {
    DROVER_CHECK(continue_write(r));
    return true;
  }
  if (call == SYS_restart_syscall && result == kErestartRestartblock) {
    return refusal("it is in a wait that is being resumed: try again");
  }
  DROVER_TRY(const bool sleeps_on, continue_sleep(r));
  if (sleeps_on) return !waits;
  const bool begun_anew =
      (result == kErestartRestartblock && call != SYS_nanosleep && call != SYS_clock_nanosleep) ||
      (result == -EINTR && is_made_again_after_eintr(static_cast<int>(call)));
  if (!begun_anew) return !waits;
  r.rax = static_cast<std::uint64_t>(kErestartnohand);
  const bool timed = is_timed_wait(r) && shares_our_clocks(pid_);
  DROVER_TRY(const bool known, timed ? is_continued(r, process_->memory) : false);
  if (known) {
    DROVER_TRY(r, rest_of_wait(r));
  }
  DROVER_CHECK(thread_.set_registers(r));
  return !waits;
}

// When it ends is known since it was away.
Result<Registers> Outbound::rest_of_wait(const Registers& registers) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  DROVER_TRY(Injection injection, Injection::returning(thread_, process_->memory));
  DROVER_TRY(const Registers rest, continue_timed_wait(registers, {},
                                                       std::chrono::seconds(now.tv_sec) +
                                                           std::chrono::nanoseconds(now.tv_nsec),
                                                       process_->memory, injection));
  DROVER_CHECK(injection.end());
  return rest;
}

Status Outbound::continue_write(const Registers& registers) {
  if (!transfers_wait(pid_, static_cast<int>(registers.rdi))) return {};
  DROVER_TRY(Injection injection, Injection::returning(thread_, process_->memory));
  DROVER_TRY(const Registers rest, continue_short_transfer(registers, process_->memory, injection));
  DROVER_CHECK(injection.end());
  return thread_.set_registers(rest);
}

// The kernel has just written the time left to where the program wants it, if it does.
Result<bool> Outbound::continue_sleep(const Registers& registers) {
  const auto sleep = interrupted_sleep(registers);
  if (!sleep || sleep->left.is_null() || !shares_our_clocks(pid_)) return false;
  DROVER_TRY(const auto left, process_->memory.read_record<timespec>(sleep->left));
  timespec now{};
  clock_gettime(sleep->clock, &now);
  const auto until = bounded(now) + bounded(left);
  DROVER_TRY(Injection injection, Injection::returning(thread_, process_->memory));
  DROVER_TRY(const Registers rest,
             drover::continue_sleep(registers, *sleep, until, process_->memory, injection));
  DROVER_CHECK(injection.end());
  DROVER_CHECK(thread_.set_registers(rest));
  return true;
}

Status Outbound::make_scratch() {
  DROVER_TRY(Injection injection, Injection::returning(thread_, process_->memory));
  DROVER_TRY(const std::uint64_t start, injection.call("mmap", SYS_mmap,
                                                       {0, Scratch::kSize, PROT_READ | PROT_WRITE,
                                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                                        static_cast<std::uint64_t>(-1), 0}));
  scratch_ = Scratch(ForeignAddress(start));
  DROVER_CHECK(scratch_.write_code(process_->memory));
  DROVER_CHECK(injection.call("mprotect", SYS_mprotect, {start, kPageSize, PROT_READ | PROT_EXEC}));
  return injection.end();
}

// Only for as long as it takes: while the image is sent, the process stands where it stood, and
// were we to die, the kernel itself would see to the call that it is in and to signals that wait.
Result<ProcessState> Outbound::capture() {
  DROVER_TRY(Injection injection, Injection::returning(thread_, process_->memory));
  DROVER_TRY(ProcessState state, capture_process(pid_, injection, process_->memory, scratch_));
  DROVER_CHECK(complete_thread(injection, process_->memory, scratch_, state_));
  DROVER_CHECK(injection.end());
  return state;
}

Status Outbound::send_image() {
  DROVER_TRY(ProcessState state, capture());
  state.threads.push_back(state_);
  process_->actions = state.actions;
  process_->kept_pages = argument_pages(state.memory);
  DROVER_TRY(auto all, read_memory_areas(pid_));
  const auto areas = without(std::move(all), scratch_.range());
  DROVER_CHECK(send_new_contents(areas));
  DROVER_TRY(Layout layout, layout_of(areas, process_->contents, scratch_));
  layout.brk = state.memory.brk;
  DROVER_CHECK(fault_point("deputy.outbound.captured"));

  DROVER_CHECK(channel_->send(type(FrameType::kLayout), layout.encode()));
  DROVER_TRY(const std::uint64_t pages,
             send_pages(*channel_, process_->memory, *process_->pages, layout.areas,
                        process_->contents.holes_now_clean(areas, *process_->pages)));
  figures_.bytes += pages;
  DROVER_CHECK(fault_point("deputy.outbound.pages-sent"));
  DROVER_CHECK(channel_->send(type(FrameType::kState), state.encode()));
  DROVER_CHECK(channel_->send(type(FrameType::kImageEnd), {}));
  return fault_point("deputy.outbound.image-sent");
}

/// What the guest says of the image. Its user, who may lose patience first, may kill the process.
Result<Frame> Outbound::await_answer() {
  const auto deadline = Clock::now() + kBuildPatience;
  for (;;) {
    DROVER_TRY(const std::optional<Frame> answer, channel_->receive());
    if (answer) return *answer;
    const auto patience = time_left(deadline);
    if (patience.count() == 0) return Error{ETIMEDOUT, "the guest's word on the image"};
    DROVER_TRY(const std::optional<Stop> stop, thread_.poll());
    if (stop && stop->gone()) {
      stops_ = false;
      return refusal("the process has ended");
    }
    pollfd ready{channel_->poll_fd(), POLLIN, 0};
    poll(&ready, 1, static_cast<int>(std::min(kGlance, patience).count()));
  }
}

Status Outbound::agree() {
  DROVER_TRY(const Frame answer, await_answer());
  if (answer.type == type(FrameType::kFailed)) return failure_of(answer);
  if (answer.type != type(FrameType::kReady)) return refusal("unexpected answer of the guest");
  return fault_point("deputy.outbound.ready");
}

// The commit. From here on a hollow process without a tracer would be lost, so it dies with us.
// Until the body is known to run, P still has all it had: if something goes wrong, the epoch is
// over, and P goes on once the body has surely ended.
Status Outbound::commit() {
  DROVER_CHECK(thread_.set_options(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
  bool is_over = false;
  const auto committed_at = Clock::now();
  const auto run = [&]() -> Status {
    DROVER_CHECK(channel_->send(type(FrameType::kCommit), encode_record(lease_)));
    DROVER_CHECK(fault_point("deputy.outbound.commit-sent"));
    DROVER_TRY(const Frame answer, channel_->receive_within(kRunPatience));
    is_over = answer.type == type(FrameType::kFailed);
    if (is_over) return failure_of(answer);
    if (answer.type != type(FrameType::kRunning)) return refusal("unexpected answer of the guest");
    return fault_point("deputy.outbound.running");
  };
  if (auto s = run(); !s) {
    if (!is_over) {
      log_warn("job {}: the commit failed: waiting for the end of the body", job_);
      end_body(*channel_, committed_at, [] {});
    }
    DROVER_CHECK(thread_.set_options(PTRACE_O_TRACESYSGOOD));
    return s.error();
  }
  committed_ = true;
  // The body has its lease from our first word on: without this one, a cut just now would cost it.
  static_cast<void>(channel_->send(type(FrameType::kHeartbeat), {}));
  return {};
}

Status Outbound::hollow_out() {
  {
    DROVER_TRY(Injection injection, Injection::trapping(thread_, scratch_));
    DROVER_CHECK(clear_registrations(injection, state_));
    DROVER_CHECK(drop_memory(injection, pid_, scratch_, process_->kept_pages));
    DROVER_CHECK(injection.end());
  }
  DROVER_CHECK(fault_point("deputy.outbound.memory-dropped"));
  process_->thread.emplace(thread_, process_->memory, scratch_, state_.registers);
  process_->in_call = is_in_forwarded_call(state_.registers, pid_);
  return {};
}

void Outbound::undo() {
  if (!seized_ || !stops_) return;  // our own end lets go of it
  if (!frozen_) {
    if (!thread_.interrupt()) return;
    const auto stop = thread_.wait_for_stop();
    if (!stop || stop->gone()) return;
  }
  Status status;
  if (scratch_.exists()) {
    status = remove_scratch(thread_, process_->memory, scratch_);
    if (status) status = thread_.set_registers(state_.registers);
    if (status) status = thread_.set_signal_mask(state_.mask);
  }
  if (status) status = thread_.detach_in_call();
  if (!status) log_error("job {}: undoing a move: {}", job_, status.error().message());
}

}  // namespace drover
