#include "migrate/jobs.h"

#include <fmt/format.h>

#include <algorithm>

#include "migrate/tickets.h"

namespace drover {
namespace {

/// A rate of calls is taken over no shorter time.
constexpr std::chrono::milliseconds kLeastCounted{200};
constexpr int kMostAncestors = 4096;  // a ppid chain read while it changes may have a loop

}  // namespace

std::string_view on_loss_name(OnLoss choice) { return choice == OnLoss::kKill ? "kill" : "hold"; }

Result<OnLoss> on_loss_named(std::string_view name) {
  for (const OnLoss choice : {OnLoss::kHold, OnLoss::kKill})
    if (name == on_loss_name(choice)) return choice;
  return refusal("hold or kill, not " + std::string(name));
}

std::string_view job_state_name(JobState state) {
  switch (state) {
    case JobState::kHome:
      return "home";
    case JobState::kLeaving:
      return "leaving";
    case JobState::kAway:
      return "away";
    case JobState::kHopping:
      return "hopping";
    case JobState::kComingHome:
      return "coming home";
    case JobState::kLost:
      return "lost";
    case JobState::kEnded:
      return "ended";
  }
  return "?";
}

CallCounter& CallCounter::operator+=(const CallCounter& other) {
  served += other.served;
  forced_home += other.forced_home;
  return *this;
}

JobCounters& JobCounters::operator+=(const JobCounters& other) {
  for (const auto& [number, call] : other.calls) calls[number] += call;
  failed_moves += other.failed_moves;
  away_ns += other.away_ns;
  remote_cpu_ns += other.remote_cpu_ns;
  return *this;
}

std::uint64_t JobCounters::served() const {
  std::uint64_t sum = 0;
  for (const auto& [number, call] : calls) sum += call.served;
  return sum;
}

JobCounters Job::counters() const {
  JobCounters sum = before;
  sum += now;
  return sum;
}

void Job::count(JobCounters latest, std::chrono::steady_clock::time_point when) {
  now = std::move(latest);
  const std::chrono::duration<double> passed = when - counted_at;
  // What waited for us to be started again comes all at once.
  if (passed < kLeastCounted) return;
  const std::uint64_t served = now.served();
  if (counted_at != std::chrono::steady_clock::time_point{} && served >= served_then)
    calls_per_second = static_cast<double>(served - served_then) / passed.count();
  counted_at = when;
  served_then = served;
}

void Job::settle_counters() {
  before += now;
  now = {};
  moves_before = moves;
  calls_per_second = 0;
  counted_at = {};
  served_then = 0;
}

std::string new_job_id() {
  std::string id;
  for (const std::byte b : random_ticket()) id += fmt::format("{:02x}", std::to_integer<int>(b));
  return id;
}

bool valid_job_id(std::string_view id) {
  return id.size() == 32 && std::ranges::all_of(id, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

Result<std::shared_ptr<Job>> JobRegistry::add(pid_t pid, const JobOptions& options) {
  DROVER_TRY(const ProcessStatus process, read_(pid));
  if (auto job = find_process(process)) {
    job->options = options;
    changed(*job);
    return job;
  }
  return make(process, options);
}

Result<std::shared_ptr<Job>> JobRegistry::member(pid_t pid) {
  DROVER_TRY(const ProcessStatus process, read_(pid));
  if (auto job = find_process(process)) return job;
  DROVER_TRY(const auto ancestor, discipline_of(pid));
  return make(process, ancestor->options);
}

Result<std::shared_ptr<const Job>> JobRegistry::discipline_of(pid_t pid) const {
  DROVER_TRY(ProcessStatus process, read_(pid));
  const uid_t uid = process.uids[0];
  for (int i = 0; i < kMostAncestors; ++i) {
    if (auto job = find_process(process)) {
      if (job->uid != uid)
        return refusal(fmt::format("runs as uid {}, but its job is one of uid {}", uid, job->uid));
      return std::shared_ptr<const Job>(job);
    }
    if (process.parent <= 0) break;
    auto parent = read_(process.parent);
    if (!parent) break;
    process = *std::move(parent);
  }
  return refusal("is not a Drover job: neither it nor an ancestor was started by mosrun");
}

std::shared_ptr<Job> JobRegistry::find(const std::string& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : found->second;
}

std::shared_ptr<Job> JobRegistry::restore(Job restored) {
  auto job = std::make_shared<Job>(std::move(restored));
  jobs_[job->id] = job;
  by_pid_[job->pid] = job->id;
  return job;
}

void JobRegistry::end(const std::string& id, std::chrono::steady_clock::time_point when) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  const std::shared_ptr<Job> job = found->second;
  jobs_.erase(found);
  // The pid may be another job's by now.
  if (const auto entry = by_pid_.find(job->pid); entry != by_pid_.end() && entry->second == id)
    by_pid_.erase(entry);
  if (job->state != JobState::kLost) job->state = JobState::kEnded;
  records_.drop(*job);
  ended_.push_back({when, job});
  if (ended_.size() > kMostRemembered) ended_.pop_front();
}

std::vector<std::shared_ptr<Job>> JobRegistry::jobs() const {
  std::vector<std::shared_ptr<Job>> all;
  for (const auto& [id, job] : jobs_) all.push_back(job);
  std::ranges::sort(all, {}, [](const auto& job) { return job->pid; });
  return all;
}

std::vector<std::shared_ptr<Job>> JobRegistry::ended(std::chrono::steady_clock::time_point now) {
  while (!ended_.empty() && now - ended_.front().when > kRemembered) ended_.pop_front();
  std::vector<std::shared_ptr<Job>> all;
  for (const Ended& entry : ended_) all.push_back(entry.job);
  return all;
}

std::shared_ptr<Job> JobRegistry::find_process(const ProcessStatus& process) const {
  const auto entry = by_pid_.find(process.pid);
  if (entry == by_pid_.end()) return nullptr;
  auto job = find(entry->second);
  return job && job->start_ticks == process.start_ticks ? job : nullptr;
}

std::shared_ptr<Job> JobRegistry::make(const ProcessStatus& process, const JobOptions& options) {
  auto job = std::make_shared<Job>();
  job->id = new_job_id();
  job->pid = process.pid;
  job->start_ticks = process.start_ticks;
  job->uid = process.uids[0];
  job->gid = process.gids[0];
  job->command = process.command;
  job->options = options;
  job->where = node_;
  jobs_.emplace(job->id, job);
  by_pid_[job->pid] = job->id;
  changed(*job);
  return job;
}

}  // namespace drover
