// Jobs of the life before, and what has become of their moves: what Moves does after a restart.
#include <fmt/format.h>

#include "common/log.h"
#include "common/names.h"
#include "migrate/daemon_moves.h"

namespace drover {

void Moves::resume(const JobPtr& job) {
  if (const Status found = deputies_.find_again(*job); found) return;
  job->settle_counters();
  const bool was_held = job->deputy && job->state != JobState::kHome;
  job->deputy.reset();
  if (!was_held) {
    if (job->state != JobState::kLost) at_home(job);
    return;
  }
  // Its deputy has ended while there was no migrated. A process that it held may be dying of that.
  inquests_[job->id] = context_.loop.after(kInquest, [this, job] {
    if (jobs_.find(job->id) == job) deputy_was_missed(job);
    inquests_.erase(job->id);
  });
}

/// Nobody was there to hear how it ended: the process tells.
void Moves::deputy_was_missed(const JobPtr& job) {
  if (is_alive(*job)) {
    if (job->state != JobState::kLeaving) ++job->moves;
    log_info("job {}: is at home, its deputy has ended while migrated was not there", job->pid);
    at_home(job);
  } else {
    log_info("job {}: has ended while migrated was not there", job->pid);
  }
  deputy_gone_(job);
}

void Moves::at_home(const JobPtr& job) {
  job->state = JobState::kHome;
  job->where = context_.settings.node;
  job->moves_before = job->moves;
  jobs_.changed(*job);
}

/// What the deputy has said before, to whom ever, is in this.
void Moves::standing(const JobPtr& job, const order::Standing& standing) {
  if (!valid_name(standing.where()))
    return log_warn("job {}: its deputy says that it is where no node is", job->pid);
  job->where = standing.where();
  job->body_epoch = standing.epoch();
  job->moves = job->moves_before + standing.moves();
  job->silent = standing.silent();
  job->body_lost = standing.body_lost();
  job->stopped = standing.stopped();
  if (job->deputy)
    job->deputy->speaks = {protocol_said(standing.oldest_protocol()),
                           protocol_said(standing.newest_protocol())};
  if (!moves_.count(job->id)) job->state = JobState::kAway;
  jobs_.changed(*job);
  log_info("job {}: found again, on {}, epoch {}", job->pid, job->where, job->body_epoch);
  // A move to there may have been under way when it was dropped from the list.
  if (context_.membership->members().empty() || context_.membership->active(job->where)) return;
  unwanted_places_[job->id] = job->where;
  bring_home();
}

/// How a move ended that was ordered before the restart.
void Moves::earlier_move_failed(const JobPtr& job) {
  const bool was_leaving = job->state == JobState::kLeaving;
  job->state = was_leaving ? JobState::kHome : JobState::kAway;
  if (was_leaving) deputies_.expect_exit(job->id);
  jobs_.changed(*job);
}

}  // namespace drover
