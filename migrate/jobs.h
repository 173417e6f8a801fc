// The jobs of this node: processes that were started here by mosrun, and those that these
// started, wherever their bodies run now.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "migrate/daemon_programs.h"
#include "migrate/jobs_process.h"

namespace drover {

enum class JobState {
  kHome,
  kLeaving,  ///< from home to a node
  kAway,
  kHopping,  ///< from node to node
  kComingHome,
  kLost,  ///< its deputy died, and it with it
  kEnded,
};
std::string_view job_state_name(JobState state);

/// What becomes of a job when its node falls silent (mosrun --on-loss).
enum class OnLoss : std::uint8_t {
  kHold,  ///< it goes on when the node is heard again, and ends if its lease ends before
  kKill,  ///< it ends as soon as that is noticed
};
std::string_view on_loss_name(OnLoss choice);
/// The choice of that name.
Result<OnLoss> on_loss_named(std::string_view name);

struct JobOptions {
  bool never_automatic = false;    ///< mosrun -l
  std::uint64_t memory_bytes = 0;  ///< mosrun -m, or 0
  OnLoss on_loss = OnLoss::kHold;
  bool keep_memory = false;  ///< mosrun --keep-memory
};

struct CallCounter {
  std::uint64_t served = 0;
  std::uint64_t forced_home = 0;

  CallCounter& operator+=(const CallCounter& other);
};

/// What was counted while a job was away, over all its deputies.
struct JobCounters {
  std::map<int, CallCounter> calls;  ///< by number
  std::uint64_t failed_moves = 0;
  std::uint64_t away_ns = 0;
  std::uint64_t remote_cpu_ns = 0;

  JobCounters& operator+=(const JobCounters& other);
  std::uint64_t served() const;
};

struct Job {
  std::string id;  ///< 32 hexadecimal digits
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string command;
  JobOptions options;
  JobState state = JobState::kHome;
  std::string where;             ///< node
  std::uint64_t epoch = 0;       ///< the last that was given out: a move that failed had one, too
  std::uint64_t body_epoch = 0;  ///< of the body that runs, or ran last
  bool silent = false;           ///< nothing has been heard of its node for a while
  bool body_lost = false;        ///< it is about to go on at home from where it left
  bool kept = false;             ///< it could
  std::string kept_why_not;      ///< if its memory was to be kept and it could not
  bool stopped = false;          ///< by a signal, while it is away
  std::uint64_t moves = 0;
  std::uint64_t moves_before = 0;  ///< of deputies that have gone
  std::string last_refusal;
  int wait_status = 0;
  std::string start_on;                   ///< mosrun -r: where it is still to be moved
  std::optional<ProgramIdentity> deputy;  ///< while it has one

  JobCounters before;  ///< of deputies that have gone
  JobCounters now;     ///< as the present deputy last said
  double calls_per_second = 0;
  std::chrono::steady_clock::time_point counted_at{};  ///< for calls_per_second, like the next
  std::uint64_t served_then = 0;
  std::uint64_t away_rss_bytes = 0;
  std::uint64_t last_cpu_home_ns = 0;

  /// It has no body that runs, or that is lost: what was said of that body counts no more.
  void forget_body() {
    silent = stopped = body_lost = kept = false;
    kept_why_not.clear();
  }
  bool away() const { return state == JobState::kAway; }
  bool moving() const {
    return state == JobState::kLeaving || state == JobState::kHopping ||
           state == JobState::kComingHome;
  }
  JobCounters counters() const;
  /// Takes what the deputy says now, and how fast calls are being forwarded.
  void count(JobCounters latest, std::chrono::steady_clock::time_point when);
  /// The deputy has gone: what it counted is kept, and the next one begins at nothing.
  void settle_counters();
};

/// A new job id: 128 random bits in hexadecimal.
std::string new_job_id();
bool valid_job_id(std::string_view id);

/// Knows a process by its pid and start time, so that a reused pid is nobody.
class JobRegistry {
 public:
  using ReadProcess = std::function<Result<ProcessStatus>(pid_t)>;
  /// Where jobs are written down for the next life of this daemon.
  struct Records {
    std::function<void(const Job&)> keep = [](const Job&) {};
    std::function<void(const Job&)> drop = [](const Job&) {};
  };

  /// `node` is this node's name; `read` tells about processes (read_process; tests have their own).
  JobRegistry(std::string node, ReadProcess read)
      : node_(std::move(node)), read_(std::move(read)) {}
  void keep_records(Records records) { records_ = std::move(records); }

  /// Makes the running process `pid` the root of a job. One that is a job already stays the
  /// same job, with the options of now (mosrun under mosrun).
  Result<std::shared_ptr<Job>> add(pid_t pid, const JobOptions& options);
  /// The job of `pid`: a registered one, or a descendant of one with the same uid, which then
  /// gets a record of its own with its ancestor's options.
  Result<std::shared_ptr<Job>> member(pid_t pid);
  /// The same without making a record: the job that `pid` is or descends from.
  Result<std::shared_ptr<const Job>> discipline_of(pid_t pid) const;
  std::shared_ptr<Job> find(const std::string& id) const;
  /// A job of the life before.
  std::shared_ptr<Job> restore(Job job);
  /// Something about the job has changed that is to be known after a restart. One that has ended
  /// is not known any more.
  void changed(const Job& job) const {
    if (jobs_.count(job.id)) records_.keep(job);
  }
  /// A job's process has ended: the record moves to `ended`.
  void end(const std::string& id, std::chrono::steady_clock::time_point when);

  std::vector<std::shared_ptr<Job>> jobs() const;
  /// Those that ended within kRemembered before `now`, oldest first.
  std::vector<std::shared_ptr<Job>> ended(std::chrono::steady_clock::time_point now);

  static constexpr std::chrono::minutes kRemembered{10};
  static constexpr std::size_t kMostRemembered = 1000;

 private:
  struct Ended {
    std::chrono::steady_clock::time_point when;
    std::shared_ptr<Job> job;
  };

  std::shared_ptr<Job> find_process(const ProcessStatus& process) const;
  std::shared_ptr<Job> make(const ProcessStatus& process, const JobOptions& options);

  std::string node_;
  ReadProcess read_;
  Records records_;
  std::map<std::string, std::shared_ptr<Job>> jobs_;
  std::map<pid_t, std::string> by_pid_;
  std::deque<Ended> ended_;
};

}  // namespace drover
