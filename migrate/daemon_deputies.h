// The deputies of this node's jobs: started or found again, given orders, listened to, and missed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "migrate/daemon_children.h"
#include "migrate/daemon_programs.h"
#include "migrate/daemon_say.h"
#include "migrate/daemon_settings.h"
#include "migrate/jobs.h"
#include "migrate/order.pb.h"
#include "migrate/spawn.h"

namespace drover {

class Deputies {
 public:
  struct Handlers {
    std::function<void(const std::string& job, const order::DeputyEvent&)> says;
    /// It has ended; `job_stderr` is its job's, as it was when the deputy was started or found.
    /// Of one that was found it is not known how.
    std::function<void(const std::string& job, std::optional<int> wait_status,
                       JobStderr job_stderr)>
        gone;
  };

  Deputies(NodeContext& context, Children& children, Handlers handlers)
      : context_(context), children_(children), handlers_(std::move(handlers)) {}

  /// Starts the deputy of a job that has none. The value is what it is known by, to be written
  /// down before it gets an order.
  Result<ProgramIdentity> start(const Job& job);
  /// Finds the job's deputy of the life before, and has it say how things stand. ESRCH if it has
  /// ended.
  Status find_again(const Job& job);
  bool present(const std::string& job) const { return deputies_.count(job) > 0; }
  /// Gives an order and, with it, a copy of `fd`. Never waits.
  Status give_order(const std::string& job, const order::DeputyOrder& order,
                    const OwnedFd* fd = nullptr);
  /// It has nothing to do any more and should exit by itself, soon.
  void expect_exit(const std::string& job);

  /// Ends a deputy that has been given no order, if there is one.
  void dismiss(const std::string& job);

  /// A deputy that was to exit and has not by then is ended.
  static constexpr std::chrono::seconds kExitPatience{10};
  /// One that was found is asked for our socket so long: it may not have read its first order.
  static constexpr std::chrono::seconds kReclaimPatience{10};

 private:
  struct Deputy {
    explicit Deputy(Program p) : program(std::move(p)) {}
    Program program;
    JobStderr job_stderr;
    EventLoop::Hold watch;  // before the program, with its socket and pidfd, goes
    EventLoop::Hold end_watch;
    EventLoop::Hold timer;
  };

  Status listen(const std::string& job, Deputy& deputy);
  void reclaim(const std::string& job, EventLoop::Clock::time_point deadline);
  void read(const std::string& job);
  bool take_packet(const std::string& job, Deputy& deputy);
  void exited(const std::string& job, std::optional<int> wait_status);

  NodeContext& context_;
  Children& children_;
  Handlers handlers_;
  std::map<std::string, std::unique_ptr<Deputy>> deputies_;
};

}  // namespace drover
