// Home's side of moves: from the order to its outcome, and the deputies that carry them out.
//
// A move to a node goes: peer link, PrepareBody, connection by ticket, order to the deputy,
// MoveEnded. Until the deputy has its order nothing has been done to the process; from then on
// the deputy answers for it. Every step has a time limit of its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "migrate/admission.h"
#include "migrate/daemon_children.h"
#include "migrate/daemon_data_port.h"
#include "migrate/daemon_deputies.h"
#include "migrate/daemon_questions.h"
#include "migrate/daemon_settings.h"
#include "migrate/jobs.h"
#include "migrate/local.pb.h"
#include "migrate/order.pb.h"
#include "migrate/peers.h"

namespace drover {

class Moves {
 public:
  using JobPtr = std::shared_ptr<Job>;
  using Done = std::function<void(Result<local::Migrated>)>;
  /// The job's deputy has gone: what waited for that may be done.
  using DeputyGone = std::function<void(const JobPtr&)>;

  Moves(NodeContext& context, Children& children, Dialler& dialler, Peers& peers, JobRegistry& jobs,
        DeputyGone deputy_gone);

  /// To be set before the loop runs.
  void use_bus(Questions& questions) { questions_ = &questions; }

  /// Moves the job's process to `target`, a node or "home". `done` is called once, when the
  /// move has ended; what it gives on failure is also kept as the job's last refusal.
  void migrate(const JobPtr& job, const std::string& target, Done done);

  /// Why the job's process cannot move now, in words; none if it can.
  std::vector<std::string> reasons(const Job& job) const;

  bool has_deputy(const std::string& job) const { return deputies_.present(job); }

  /// Takes up a job of the life before: finds its deputy, which says how things stand, or what
  /// has become of its process.
  void resume(const JobPtr& job);

  /// The node is not to have any job of ours: moves to it that have not begun fail, what is there
  /// or on its way comes home.
  void distrust(const std::string& node);

  /// A homecoming of that kind that failed is tried again after this.
  static constexpr std::chrono::seconds kNextTry{5};

  /// The job's process has ended, and no deputy has: whoever waits for a move of it is told.
  void job_ended(const JobPtr& job);

 private:
  struct Move {
    JobPtr job;
    JobState kind = JobState::kHome;  // kLeaving, kHopping or kComingHome
    std::string target;
    std::uint64_t epoch = 0;
    Done done;
    Ticket link{};
    bool linked_anew = false;
    ProtocolRange spoken;  // by home's end of the channel
    peer::Prepared place;
    bool prepared = false;  // a place at the target waits
    bool ordered = false;   // the deputy has the order
    std::chrono::nanoseconds asked_at{};
    // Known, but to be said only once the deputy has gone, so that the next order finds none.
    std::unique_ptr<Result<local::Migrated>> outcome;
  };
  using MovePtr = std::shared_ptr<Move>;

  // The steps of a move, in order.
  Status check_target(const std::string& target) const;
  void begin(const JobPtr& job, JobState kind, const std::string& target, Done done);
  void connect(const MovePtr& move);
  void recall(const MovePtr& move);
  void link_ready(const MovePtr& move, Result<Peers::LinkName> link);
  void place_ready(const MovePtr& move, Result<peer::PeerMessage> answer);
  void socket_ready(const MovePtr& move, Result<OwnedFd> socket);
  void ordered_or_failed(const MovePtr& move, const Status& ordered);
  Result<ProtocolRange> spoken_by_deputy(const Move& move) const;
  Status start_deputy(const JobPtr& job);
  Status order_deputy(const MovePtr& move, const OwnedFd& socket);
  bool current(const MovePtr& move) const;
  void fail(const MovePtr& move, const Error& why);
  void release_place(const Move& move);
  void finish(const MovePtr& move, Result<local::Migrated> outcome);
  void bring_home();

  // What deputies say.
  void deputy_says(const std::string& job, const order::DeputyEvent& event);
  void move_ended(const JobPtr& job, const order::MoveEnded& event);
  void moved(const JobPtr& job, const MovePtr& move, const order::MoveEnded& event);
  void not_moved(const JobPtr& job, const MovePtr& move, const order::MoveEnded& event);
  void deputy_gone(const std::string& id, std::optional<int> wait_status, JobStderr job_stderr);
  void deputy_died(const JobPtr& job, const std::string& how, const JobStderr& job_stderr);
  static bool is_alive(const Job& job);
  std::chrono::milliseconds lease_of(const Job& job) const;

  // After a restart.
  void deputy_was_missed(const JobPtr& job);
  void at_home(const JobPtr& job);
  void standing(const JobPtr& job, const order::Standing& standing);
  void fell_silent(const JobPtr& job, bool silent);
  void earlier_move_failed(const JobPtr& job);

  /// For a process without a deputy to be seen dying of that.
  static constexpr std::chrono::milliseconds kInquest{300};

  NodeContext& context_;
  Dialler& dialler_;
  Peers& peers_;
  JobRegistry& jobs_;
  Questions* questions_ = nullptr;
  DeputyGone deputy_gone_;
  peer::Machine machine_;
  std::map<std::string, MovePtr> moves_;                // by job
  std::map<std::string, std::string> unwanted_places_;  // by job: the node that it is not to be on
  EventLoop::Hold next_try_;
  Deputies deputies_;
  std::map<std::string, EventLoop::Hold> inquests_;  // into deputies that died, by job
};

}  // namespace drover
