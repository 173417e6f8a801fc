// The daemon's dealings with its node's own jobs: what tools ask about them, and their ends.
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

#include "common/log.h"
#include "migrate/daemon.h"
#include "migrate/daemon_say.h"

namespace drover {
namespace {

constexpr int kJobsInOneReply = 64;
constexpr std::chrono::milliseconds kRegistrationPause{20};

LocalServer::Replies in_packets(const std::vector<local::Job>& jobs) {
  LocalServer::Replies replies(1);
  replies.back().mutable_jobs();
  for (const local::Job& job : jobs) {
    if (replies.back().jobs().jobs_size() >= kJobsInOneReply) replies.emplace_back().mutable_jobs();
    *replies.back().mutable_jobs()->add_jobs() = job;
  }
  return replies;
}

std::string state_words(const Job& job) {
  if (job.body_lost && job.away()) return "resuming";
  if (job.silent && job.away()) return "held";
  if (job.stopped && job.away()) return "stopped";
  if (job.state == JobState::kHome) {
    const auto process = read_process(job.pid);
    if (process && process->start_ticks == job.start_ticks && process->state == 'T')
      return "stopped";
  }
  return std::string(job_state_name(job.state));
}

Result<OwnedFd> open_pidfd(pid_t pid) {
  OwnedFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return errno_error("process " + std::to_string(pid));
  return fd;
}

}  // namespace

void Daemon::asked_locally(const PeerCredentials& who, const local::Request& request,
                           LocalServer::Answer answer) {
  switch (request.request_case()) {
    case local::Request::kRegisterJob:
      return register_job(who, request.register_job(), std::move(answer));
    case local::Request::kMigrateJob:
      return migrate_job(who, request.migrate_job(), std::move(answer));
    case local::Request::kListJobs:
      return answer(list_jobs(who, request.list_jobs()));
    case local::Request::kJobDetails:
      return answer(job_details(who, request.job_details().pid()));
    case local::Request::kListGuests:
      return answer(list_guests(who));
    case local::Request::kStatus:
      return answer(status(who));
    case local::Request::REQUEST_NOT_SET:
      return answer(refusal("no request"));
  }
}

/// mosrun speaks of itself: the socket says which process it is.
void Daemon::register_job(const PeerCredentials& who, const local::RegisterJob& request,
                          LocalServer::Answer answer) {
  if (const Status may = check_verb(local_caller(who.uid, who.uid), Verb::kRegisterJob); !may)
    return answer(may.error());
  if (who.pid <= 0) return answer(refusal("runs outside this node's pid namespace"));
  JobOptions options;
  options.never_automatic = request.never_automatic();
  options.memory_bytes = request.memory_bytes();
  options.keep_memory = request.keep_memory();
  if (!request.on_loss().empty()) {
    const auto on_loss = on_loss_named(request.on_loss());
    if (!on_loss) return answer(on_loss.error());
    options.on_loss = *on_loss;
  }
  const auto job = jobs_.add(who.pid, options);
  if (!job) return answer(job.error());
  if (const Status watched = watch_job(*job); !watched) return answer(watched.error());
  if (!request.start_on().empty()) {
    to_be_started_[who.pid] = request.start_on();
    (*job)->start_on = request.start_on();
    jobs_.changed(**job);
  }
  local::Reply reply;
  reply.mutable_registered()->set_job((*job)->id);
  answer(LocalServer::Replies{std::move(reply)});
}

/// A connection has closed: if it was mosrun's, by the exec that starts the program (the
/// socket is close-on-exec), or by its end.
void Daemon::program_started(const PeerCredentials& who) { start_where_asked(who.pid); }

void Daemon::start_where_asked(pid_t pid) {
  const auto waiting = to_be_started_.find(pid);
  if (waiting == to_be_started_.end()) return;
  const std::string target = waiting->second;
  to_be_started_.erase(waiting);
  const auto member = jobs_.member(pid);
  if (!member) return;
  const JobPtr& job = *member;
  job->start_on.clear();
  moves_->migrate(job, target, [job, target](const Result<local::Migrated>& moved) {
    if (moved) return;
    // Taken now, not kept: a process at home has no strings to us.
    const auto job_stderr = JobStderr::of(job->pid, job->uid, job->gid);
    if (job_stderr)
      job_stderr->say(fmt::format("mosrun: {}: cannot start on {}: {}; it runs at home", job->pid,
                                  target, moved.error().message()));
  });
}

void Daemon::migrate_job(const PeerCredentials& who, const local::MigrateJob& request,
                         LocalServer::Answer answer) {
  const auto known = jobs_.discipline_of(request.pid());
  if (!known && may_yet_register(who, request.pid()))
    return migrate_job_soon(who, request, std::move(answer));
  // To those who may not ask, a job that is not theirs and no job at all look the same.
  const std::optional<uid_t> owner = known ? std::optional((*known)->uid) : std::nullopt;
  if (const Status may = check_verb(local_caller(who.uid, owner), Verb::kMigrateJob); !may)
    return answer(may.error());
  if (!known) return answer(known.error());
  const auto job = jobs_.member(request.pid());
  if (!job) return answer(job.error());
  if (const Status watched = watch_job(*job); !watched) return answer(watched.error());
  moves_->migrate(*job, request.target(), [answer](Result<local::Migrated> moved) {
    if (!moved) return answer(moved.error());
    local::Reply reply;
    *reply.mutable_migrated() = *moved;
    answer(LocalServer::Replies{std::move(reply)});
  });
}

/// The shell tells the pid of `mosrun PROGRAM &` before mosrun has said a word.
bool Daemon::may_yet_register(const PeerCredentials& who, pid_t pid) {
  const auto process = read_process(pid);
  if (!process || (who.uid != 0 && who.uid != process->uids[0])) return false;
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return process->start_ticks + ticks > static_cast<std::uint64_t>(now.tv_sec) * ticks;
}

void Daemon::migrate_job_soon(const PeerCredentials& who, const local::MigrateJob& request,
                              LocalServer::Answer answer) {
  const std::uint64_t id = next_postponed_++;
  postponed_[id] = loop_->after(kRegistrationPause, [this, who, request, answer, id] {
    migrate_job(who, request, answer);
    postponed_.erase(id);
  });
}

Result<LocalServer::Replies> Daemon::list_jobs(const PeerCredentials& who,
                                               const local::ListJobs& request) {
  std::vector<local::Job> visible;
  const auto jobs = request.ended() ? jobs_.ended(EventLoop::Clock::now()) : jobs_.jobs();
  for (const JobPtr& job : jobs)
    if (may_use(local_caller(who.uid, job->uid), Verb::kSeeJob)) visible.push_back(describe(*job));
  if (!request.ended())
    for (local::Job& job : descendants_at_home(who)) visible.push_back(std::move(job));
  return in_packets(visible);
}

Result<LocalServer::Replies> Daemon::job_details(const PeerCredentials& who, pid_t pid) {
  const auto known = jobs_.discipline_of(pid);
  const std::optional<uid_t> owner = known ? std::optional((*known)->uid) : std::nullopt;
  DROVER_CHECK(check_verb(local_caller(who.uid, owner), Verb::kSeeJob));
  if (!known) return known.error();
  Job job = **known;
  if (job.pid != pid) {
    // A descendant without a record of its own: at home, never moved.
    DROVER_TRY(const ProcessStatus process, read_process(pid));
    job = Job();
    job.pid = pid;
    job.start_ticks = process.start_ticks;
    job.uid = process.uids[0];
    job.command = process.command;
    job.options = (*known)->options;
    job.where = settings_.node;
  }
  local::Job described = describe(job);
  for (const std::string& reason : moves_->reasons(job)) described.add_reasons(reason);
  return in_packets({described});
}

Result<LocalServer::Replies> Daemon::list_guests(const PeerCredentials& who) {
  DROVER_CHECK(check_verb(local_caller(who.uid, std::nullopt), Verb::kListGuests));
  LocalServer::Replies replies(1);
  replies.back().mutable_guests();
  for (const local::Guest& guest : places_->list()) {
    if (replies.back().guests().guests_size() >= kJobsInOneReply)
      replies.emplace_back().mutable_guests();
    *replies.back().mutable_guests()->add_guests() = guest;
  }
  return replies;
}

Result<LocalServer::Replies> Daemon::status(const PeerCredentials& who) {
  DROVER_CHECK(check_verb(local_caller(who.uid, std::nullopt), Verb::kStatus));
  local::Reply reply;
  local::NodeStatus& status = *reply.mutable_status();
  status.set_node(settings_.node);
  if (const Member* self = context_.membership->active(settings_.node)) status.set_zone(self->zone);
  status.set_jobs(static_cast<std::uint32_t>(jobs_.jobs().size()));
  status.set_guests(static_cast<std::uint32_t>(places_->count()));
  status.set_blocked(settings_.block);
  status.set_version(DROVER_VERSION);
  const auto add_protocol = [&](const std::string& node, ProtocolRange spoken) {
    local::NodeProtocol& protocol = *status.add_protocols();
    protocol.set_node(node);
    protocol.set_oldest(spoken.oldest);
    protocol.set_newest(spoken.newest);
  };
  add_protocol(settings_.node, settings_.speaks);
  for (const auto& [node, spoken] : questions_->spoken()) add_protocol(node, spoken);
  return LocalServer::Replies{std::move(reply)};
}

/// Learns of the end of the job's process.
Status Daemon::watch_job(const JobPtr& job) {
  if (watches_.count(job->id)) return {};
  JobWatch watch;
  DROVER_TRY(watch.pidfd, open_pidfd(job->pid));
  // The pid may have been given to another since the record was made.
  const auto process = read_process(job->pid);
  if (!process || process->start_ticks != job->start_ticks)
    return Error{ESRCH, "process " + std::to_string(job->pid)};
  DROVER_TRY(watch.watch, loop_->watch(watch.pidfd.get(), EPOLLIN,
                                       [this, id = job->id](std::uint32_t) { process_ended(id); }));
  watches_.emplace(job->id, std::move(watch));
  return {};
}

void Daemon::process_ended(const std::string& id) {
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  found->second.ended = true;
  found->second.watch.reset();
  if (const JobPtr job = jobs_.find(id)) {
    to_be_started_.erase(job->pid);
    end_if_over(job);
  }
}

/// A record goes when its process has ended and its deputy, which may still have the last
/// word about it, has gone.
void Daemon::end_if_over(const JobPtr& job) {
  const auto watch = watches_.find(job->id);
  if (watch == watches_.end() || !watch->second.ended || moves_->has_deputy(job->id)) return;
  watches_.erase(watch);
  moves_->job_ended(job);
  jobs_.end(job->id, EventLoop::Clock::now());
}

local::Job Daemon::describe(const Job& job) const {
  local::Job out;
  out.set_job(job.id);
  out.set_pid(job.pid);
  out.set_uid(job.uid);
  out.set_home(settings_.node);
  out.set_where(job.where);
  out.set_state(state_words(job));
  out.set_keep_memory(job.options.keep_memory);
  out.set_kept(job.kept && !job.body_lost);
  out.set_kept_why_not(job.kept_why_not);
  out.set_moves(job.moves);
  out.set_epoch(job.body_epoch);
  out.set_calls_per_second(job.calls_per_second);
  out.set_never_automatic(job.options.never_automatic);
  out.set_last_refusal(job.last_refusal);
  out.set_wait_status(job.wait_status);
  out.set_command(job.command);
  const auto process = read_process(job.pid);
  if (process && process->start_ticks == job.start_ticks) {
    out.set_command(process->command);
    out.set_cpu_home_ns(process->cpu_ns);
    out.set_rss_bytes(process->rss_bytes);
  }
  if (job.away()) out.set_rss_bytes(job.away_rss_bytes);
  const JobCounters counters = job.counters();
  out.set_failed_moves(counters.failed_moves);
  out.set_cpu_away_ns(counters.remote_cpu_ns);
  out.set_away_ns(counters.away_ns);
  for (const auto& [number, call] : counters.calls) {
    local::CallCount& count = *out.add_calls();
    count.set_number(number);
    count.set_served(call.served);
    count.set_forced_home(call.forced_home);
  }
  return out;
}

/// Processes under a job's discipline that have never moved, and so have no record.
std::vector<local::Job> Daemon::descendants_at_home(const PeerCredentials& who) const {
  std::vector<local::Job> found;
  const auto pids = list_processes();
  if (!pids || jobs_.jobs().empty()) return found;
  for (const pid_t pid : *pids) {
    const auto ancestor = jobs_.discipline_of(pid);
    if (!ancestor || (*ancestor)->pid == pid) continue;
    if (!may_use(local_caller(who.uid, (*ancestor)->uid), Verb::kSeeJob)) continue;
    const auto process = read_process(pid);
    if (!process) continue;
    Job job;
    job.pid = pid;
    job.start_ticks = process->start_ticks;
    job.uid = process->uids[0];
    job.command = process->command;
    job.options = (*ancestor)->options;
    job.where = settings_.node;
    found.push_back(describe(job));
  }
  return found;
}

}  // namespace drover
