// The daemon takes up what the one before it has left: jobs, and trust in their places.
#include <fmt/format.h>

#include "common/log.h"
#include "migrate/daemon.h"
#include "migrate/job_record.h"

namespace drover {

Status Daemon::open_records() {
  const std::string directory = settings_.run_dir + "/records";
  DROVER_TRY(const std::string boot, own_boot_id());
  DROVER_TRY(job_records_, RecordStore::open(directory + "/jobs", boot));
  DROVER_TRY(guest_records_, RecordStore::open(directory + "/guests", boot));
  const auto keep = [this](const Job& job) {
    if (const Status kept = job_records_->put(job.id, encode_job(job)); !kept)
      log_error("job {} will not be known after a restart: {}", job.pid, kept.error().message());
  };
  jobs_.keep_records({keep, [this](const Job& job) { job_records_->remove(job.id); }});
  return {};
}

void Daemon::resume() {
  for (const auto& [name, record] : job_records_->all()) {
    auto job = decode_job(record);
    if (job && job->id == name) {
      resume_job(jobs_.restore(*std::move(job)));
    } else {
      log_warn("record dropped: {}: not the record of a job", name);
      job_records_->remove(name);
    }
  }
  places_->resume();
  distrust_strangers();
}

void Daemon::resume_job(const JobPtr& job) {
  const Status watched = watch_job(job);
  if (!watched && watched.error().code == ESRCH)
    watches_[job->id].ended = true;
  else if (!watched)
    log_error("job {}: its end will not be noticed: {}", job->pid, watched.error().message());
  moves_->resume(job);
  if (!job->start_on.empty()) {
    // Whoever was to tell us that the program has started has lost us, and so has it.
    to_be_started_[job->pid] = job->start_on;
    starts_[job->pid] = loop_->after(std::chrono::seconds::zero(), [this, pid = job->pid] {
      start_where_asked(pid);
      starts_.erase(pid);
    });
  }
  end_if_over(job);
}

/// Who was dropped from the membership list while there was no migrated.
void Daemon::distrust_strangers() {
  if (context_.membership->members().empty()) return;
  std::set<std::string> nodes = places_->homes();
  for (const JobPtr& job : jobs_.jobs())
    if (job->where != settings_.node) nodes.insert(job->where);
  for (const std::string& node : nodes)
    if (!context_.membership->active(node)) distrust(node);
}

/// For the next life. What deputies count is written down at such moments only: they tell it
/// again.
void Daemon::write_down_jobs() {
  for (const JobPtr& job : jobs_.jobs()) jobs_.changed(*job);
}

}  // namespace drover
