// migrated: the parts put together.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "common/control_bus.h"
#include "migrate/daemon_children.h"
#include "migrate/daemon_data_port.h"
#include "migrate/daemon_local.h"
#include "migrate/daemon_moves.h"
#include "migrate/daemon_places.h"
#include "migrate/daemon_questions.h"
#include "migrate/daemon_records.h"
#include "migrate/daemon_settings.h"
#include "migrate/jobs.h"
#include "migrate/peers.h"

namespace drover {

class Daemon {
 public:
  /// Opens everything: keys, membership list, ports, local socket; finds the jobs and guests of
  /// the daemon before. SIGTERM, SIGINT, SIGHUP and SIGCHLD must be blocked already.
  static Result<std::unique_ptr<Daemon>> open(const DaemonSettings& settings);

  /// Serves until SIGTERM or SIGINT. Deputies and guests with a body live on after it.
  Status run();

 private:
  using JobPtr = std::shared_ptr<Job>;
  struct JobWatch {
    OwnedFd pidfd;
    EventLoop::Hold watch;  // before the pidfd goes
    bool ended = false;
  };

  Daemon(const DaemonSettings& settings, std::unique_ptr<EventLoop> loop, NodeKeys keys,
         OwnedFd claim);
  Status start();
  Status watch_signals();

  // The membership list.
  Result<std::shared_ptr<const Membership>> load_membership() const;
  void refresh_membership();
  void distrust(const std::string& node);

  // What is asked.
  void asked_locally(const PeerCredentials& who, const local::Request& request,
                     LocalServer::Answer answer);
  void register_job(const PeerCredentials& who, const local::RegisterJob& request,
                    LocalServer::Answer answer);
  void migrate_job(const PeerCredentials& who, const local::MigrateJob& request,
                   LocalServer::Answer answer);
  static bool may_yet_register(const PeerCredentials& who, pid_t pid);
  void migrate_job_soon(const PeerCredentials& who, const local::MigrateJob& request,
                        LocalServer::Answer answer);
  Result<LocalServer::Replies> list_jobs(const PeerCredentials& who,
                                         const local::ListJobs& request);
  Result<LocalServer::Replies> job_details(const PeerCredentials& who, pid_t pid);
  Result<LocalServer::Replies> list_guests(const PeerCredentials& who);
  Result<LocalServer::Replies> status(const PeerCredentials& who);
  std::optional<peer::PeerMessage> asked_by_node(const std::string& from,
                                                 const peer::PeerMessage& message);
  void connection_came(OwnedFd socket, const Preamble& preamble);

  // What was before.
  Status open_records();
  void resume();
  void resume_job(const JobPtr& job);
  void distrust_strangers();
  void write_down_jobs();

  // Jobs.
  void program_started(const PeerCredentials& who);
  void start_where_asked(pid_t pid);
  Status watch_job(const JobPtr& job);
  void process_ended(const std::string& id);
  void end_if_over(const JobPtr& job);
  local::Job describe(const Job& job) const;
  std::vector<local::Job> descendants_at_home(const PeerCredentials& who) const;

  DaemonSettings settings_;
  OwnedFd claim_;  // to the run directory
  std::unique_ptr<EventLoop> loop_;
  NodeKeys keys_;
  NodeContext context_;
  std::optional<ControlBus> bus_;
  std::unique_ptr<Children> children_;
  std::optional<RecordStore> job_records_;
  std::optional<RecordStore> guest_records_;
  JobRegistry jobs_;
  std::map<std::string, JobWatch> watches_;     // by job
  std::map<pid_t, std::string> to_be_started_;  // mosrun -r: where, by pid
  std::map<pid_t, EventLoop::Hold> starts_;     // of those of the life before
  std::optional<Dialler> dialler_;
  std::optional<Peers> peers_;
  std::optional<GuestPlaces> places_;
  std::optional<Moves> moves_;
  std::unique_ptr<Questions> questions_;
  std::unique_ptr<DataPort> data_port_;
  std::unique_ptr<LocalServer> local_;
  OwnedFd signals_;
  EventLoop::Hold signal_watch_;
  EventLoop::Hold membership_timer_;
  std::map<std::uint64_t, EventLoop::Hold> postponed_;  // orders for what may yet be a job
  std::uint64_t next_postponed_ = 0;
  std::string membership_stamp_;
};

}  // namespace drover
