#include "migrate/outbound.h"

#include <fcntl.h>
#include <linux/kcmp.h>
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
#include "common/process/limits.h"
#include "common/process/thread_list.h"
#include "common/sha256.h"
#include "common/tls_socket.h"
#include "migrate/body_end.h"
#include "migrate/content_transfer.h"
#include "migrate/jobs_process.h"
#include "migrate/page_stream.h"
#include "remote-syscall/disturbed_call.h"

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

/// For how many threads that it will make while away there is to be room: it counts in RLIMIT_AS
/// and RLIMIT_DATA.
std::size_t spare_threads(pid_t pid) {
  const auto limits = memory_limits_of(pid);
  const bool unlimited =
      limits && limits->address_space.soft == Limit::kNone && limits->data.soft == Limit::kNone;
  return unlimited ? kSpareThreads : 0;
}

Error another_program() { return refusal("it has become another program meanwhile: try again"); }

}  // namespace

Outbound::Outbound(pid_t pid, std::string job, std::string home_node, bool root_allowed,
                   Commit lease, bool keep_memory, SecureChannel& channel)
    : pid_(pid),
      job_(std::move(job)),
      home_node_(std::move(home_node)),
      root_allowed_(root_allowed),
      lease_(lease),
      keep_memory_(keep_memory),
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

// While the process still runs: who it is, and the contents of its file mappings.
Status Outbound::send_in_advance() {
  DROVER_TRY(const auto areas, read_memory_areas(pid_));
  DROVER_TRY(vdso_, find_vdso(areas));  // first: what fails after it may fail for an execve
  DROVER_CHECK(check_areas_can_move(areas));
  DROVER_TRY(Identity identity, identity_of(pid_, job_, home_node_));
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
  DROVER_CHECK(freeze_threads());
  DROVER_CHECK(check_may_move());
  process_->stopped = std::ranges::any_of(threads_, &LeavingThread::in_group_stop);
  if (process_->stopped && channel_->protocol() < kFirstWithStops) {
    return refusal("it is stopped by a signal");
  }
  DROVER_TRY(const auto areas, read_memory_areas(pid_));
  DROVER_CHECK(check_areas_can_move(areas));
  DROVER_TRY(const ForeignRange vdso, find_vdso(areas));
  if (process_->memory.replaced() || vdso != vdso_) return another_program();
  DROVER_CHECK(open_memory());  // the page map may have been another program's
  DROVER_CHECK(capture_threads(vdso));
  DROVER_CHECK(fault_point("deputy.outbound.frozen"));
  return make_scratch();
}

// Only now: a traced process would wait for us with every signal that it gets. Until all are held
// they may make others.
Status Outbound::freeze_threads() {
  const auto deadline = Clock::now() + kStopPatience;
  for (bool all_held = false; !all_held;) {
    if (Clock::now() > deadline) return refusal("it makes threads too fast: try again");
    DROVER_TRY(const auto tids, threads_of(pid_));
    if (tids.size() > kMaxThreads) return refusal("it has too many threads");
    const std::size_t held = threads_.size();
    for (const pid_t tid : tids) {
      if (std::ranges::find(threads_, tid, &LeavingThread::tid) != threads_.end()) continue;
      DROVER_TRY(const bool there, threads_.emplace_back(pid_, tid, process_->memory).seize());
      if (!there) threads_.pop_back();
    }
    // All have been told to stop: one does while another one is seen to.
    for (auto thread = std::next(threads_.begin(), held); thread != threads_.end();) {
      DROVER_TRY(const bool there, thread->freeze());
      thread = there ? std::next(thread) : threads_.erase(thread);
    }
    if (threads_.empty() || threads_.front().tid() != pid_) return refusal("the process has ended");
    // Not because the list shows no other: it ends at a thread that ends while it is read, and one
    // that has ended since may have made another one before.
    DROVER_TRY(const ProcessStatus status, read_process(pid_));
    all_held = static_cast<std::size_t>(status.threads) == threads_.size();
  }
  return {};
}

// migrated has seen no objection, but the process has been running since.
Status Outbound::check_may_move() const {
  for (const LeavingThread& thread : threads_) {
    DROVER_TRY(const ProcessStatus status, read_process(thread.tid()));
    const auto objections = objections_to_moving(status, root_allowed_, /*tracer_is_ours=*/true);
    if (!objections.empty()) return refusal("declined: " + objections.front());
    for (const int shared : {KCMP_FILES, KCMP_FS}) {
      if (syscall(SYS_kcmp, pid_, thread.tid(), shared, 0, 0) != 0) {
        return refusal("declined: its threads do not share their files");
      }
    }
  }
  return {};
}

Status Outbound::capture_threads(ForeignRange vdso) {
  for (const LeavingThread& thread : threads_) {
    DROVER_TRY(ThreadState state, capture_thread(thread.thread(), process_->memory, vdso));
    DROVER_TRY(state.schedule, schedule_of(thread.tid()));
    states_.push_back(std::move(state));
  }
  return {};
}

Status Outbound::make_scratch() {
  DROVER_TRY(Injection injection, Injection::returning(leader(), process_->memory));
  const auto map_for = [&](std::size_t threads) {
    return injection.call(
        "mmap", SYS_mmap,
        {0, Scratch::size_for(threads), PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, static_cast<std::uint64_t>(-1), 0});
  };
  std::size_t threads = threads_.size() + spare_threads(pid_);
  auto mapped = map_for(threads);
  if (!mapped && mapped.error().code == ENOMEM) mapped = map_for(threads = threads_.size());
  DROVER_TRY(const std::uint64_t start, std::move(mapped));
  scratch_ = Scratch(ForeignAddress(start), threads);
  DROVER_CHECK(scratch_.write_code(process_->memory));
  DROVER_CHECK(injection.call("mprotect", SYS_mprotect, {start, kPageSize, PROT_READ | PROT_EXEC}));
  return injection.end();
}

// Only for as long as it takes: while the image is sent, the process stands where it stood, and
// were we to die, the kernel itself would see to the call that it is in and to signals that wait.
Result<ProcessState> Outbound::capture() {
  ProcessState process;
  {
    DROVER_TRY(Injection injection, Injection::returning(leader(), process_->memory));
    DROVER_TRY(process, capture_process(pid_, injection, process_->memory, scratch_));
    DROVER_CHECK(injection.end());
  }
  auto state = states_.begin();
  for (const LeavingThread& thread : threads_) {
    DROVER_TRY(Injection injection, Injection::returning(thread.thread(), process_->memory));
    DROVER_CHECK(complete_thread(injection, process_->memory, scratch_, *state++));
    DROVER_CHECK(injection.end());
  }
  return process;
}

Status Outbound::send_image() {
  DROVER_TRY(ProcessState state, capture());
  state.threads = states_;
  state.cpu.emplace();
  DROVER_TRY(state.limits, memory_limits_of(pid_));
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
  DROVER_CHECK(channel_->send(type(FrameType::kState), state.encode(channel_->protocol())));
  DROVER_CHECK(channel_->send(type(FrameType::kImageEnd), {}));
  if (keep_memory_) process_->kept_state = std::move(state);
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
    for (LeavingThread& thread : threads_) {
      DROVER_TRY(const bool there, thread.is_there());
      if (!there) return refusal("the process has ended");
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
  DROVER_CHECK(set_options(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
  bool is_over = false;
  const auto committed_at = Clock::now();
  const auto run = [&]() -> Status {
    if (process_->stopped) DROVER_CHECK(channel_->send(type(FrameType::kStop), {}));
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
    DROVER_CHECK(set_options(PTRACE_O_TRACESYSGOOD));
    return s.error();
  }
  committed_ = true;
  // The body has its lease from our first word on: without this one, a cut just now would cost it.
  static_cast<void>(channel_->send(type(FrameType::kHeartbeat), {}));
  return {};
}

Status Outbound::set_options(unsigned long options) const {
  for (const LeavingThread& thread : threads_) DROVER_CHECK(thread.thread().set_options(options));
  return {};
}

Status Outbound::hollow_out() {
  auto state = states_.begin();
  for (const LeavingThread& thread : threads_) {
    DROVER_TRY(Injection injection, Injection::trapping(thread.thread(), scratch_));
    DROVER_CHECK(clear_registrations(injection, process_->memory, *state++));
    DROVER_CHECK(injection.end());
  }
  if (!keep_memory_) {
    DROVER_TRY(Injection injection, Injection::trapping(leader(), scratch_));
    DROVER_CHECK(drop_memory(injection, pid_, scratch_, process_->kept_pages));
    DROVER_CHECK(injection.end());
  }
  DROVER_CHECK(fault_point("deputy.outbound.memory-dropped"));
  std::size_t number = 0;
  for (const LeavingThread& thread : threads_) {
    const Registers& registers = states_[number].registers;
    process_->threads.emplace_back(thread.thread(), process_->memory, scratch_.of_thread(number++),
                                   registers, thread.in_group_stop());
    if (is_in_forwarded_call(registers, pid_)) process_->in_calls.push_back(thread.tid());
  }
  return {};
}

void Outbound::undo() {
  Status outcome;
  const bool has_scratch = scratch_.exists();
  if (const auto held = has_scratch ? threads_.front().hold() : Result<bool>(false);
      held && *held) {
    const ThreadState& state = states_.front();
    outcome = remove_scratch(leader(), process_->memory, scratch_);
    if (outcome) outcome = leader().set_registers(state.registers);
    if (outcome) outcome = leader().set_signal_mask(state.mask);
  }
  if (const Status let_go = let_go_threads(); !let_go) outcome = let_go;
  if (!outcome) log_error("job {}: undoing a move: {}", job_, outcome.error().message());
}

// Each as soon as it has stopped: none waits for another one.
Status Outbound::let_go_threads() {
  constexpr timespec kPause{0, 10'000'000};
  Status outcome;
  for (const auto deadline = Clock::now() + kStopPatience; !threads_.empty();) {
    for (auto thread = threads_.begin(); thread != threads_.end();) {
      const auto let_go = thread->let_go();
      if (!let_go) outcome = let_go.error();
      thread = let_go && !*let_go ? std::next(thread) : threads_.erase(thread);
    }
    if (threads_.empty() || Clock::now() >= deadline) break;
    nanosleep(&kPause, nullptr);
  }
  return outcome;
}

}  // namespace drover
