#include "migrate/daemon_deputies.h"

#include <sys/wait.h>

#include <csignal>

#include "common/log.h"
#include "migrate/messages.h"

namespace drover {
namespace {

constexpr std::chrono::milliseconds kNoWait{0};
constexpr std::chrono::milliseconds kReclaimPause{50};

}  // namespace

Result<ProgramIdentity> Deputies::start(const Job& job) {
  const std::string id = job.id;
  auto job_stderr = JobStderr::of(job.pid, job.uid, job.gid);
  DROVER_TRY(Spawned spawned, spawn_deputy(context_.settings.spawn, job.pid));
  DROVER_TRY(Program program, Program::started(std::move(spawned)));
  auto deputy = std::make_unique<Deputy>(std::move(program));
  if (job_stderr) deputy->job_stderr = *std::move(job_stderr);
  if (const Status listens = listen(id, *deputy); !listens) {
    deputy->program.signal(SIGKILL);
    return listens.error();
  }
  const ProgramIdentity identity = deputy->program.identity();
  children_.expect(identity.pid, [this, id](int status) { exited(id, status); });
  deputies_[id] = std::move(deputy);
  return identity;
}

Status Deputies::find_again(const Job& job) {
  const std::string id = job.id;
  if (!job.deputy) return Error{ESRCH, "its deputy"};
  DROVER_TRY(Program program, Program::find(*job.deputy));
  auto deputy = std::make_unique<Deputy>(std::move(program));
  if (auto job_stderr = JobStderr::of(job.pid, job.uid, job.gid))
    deputy->job_stderr = *std::move(job_stderr);
  DROVER_TRY(deputy->end_watch,
             context_.loop.watch(deputy->program.pidfd(), EPOLLIN,
                                 [this, id](std::uint32_t) { exited(id, std::nullopt); }));
  deputies_[id] = std::move(deputy);
  reclaim(id, EventLoop::Clock::now() + kReclaimPatience);
  return {};
}

void Deputies::reclaim(const std::string& job, EventLoop::Clock::time_point deadline) {
  Deputy& deputy = *deputies_.at(job);
  const Status reclaimed = deputy.program.reclaim_socket();
  if (!reclaimed && EventLoop::Clock::now() < deadline) {
    deputy.timer =
        context_.loop.after(kReclaimPause, [this, job, deadline] { reclaim(job, deadline); });
    return;
  }
  deputy.timer.reset();
  const Status listens = reclaimed ? listen(job, deputy) : reclaimed;
  if (!listens)
    return log_error("deputy {} takes no orders: {}", deputy.program.pid(),
                     listens.error().message());
  order::DeputyOrder order;
  order.mutable_report();
  if (const Status asked = give_order(job, order); !asked)
    log_warn("deputy {}: {}", deputy.program.pid(), asked.error().message());
}

Status Deputies::listen(const std::string& job, Deputy& deputy) {
  DROVER_TRY(deputy.watch, context_.loop.watch(deputy.program.socket()->fd(), EPOLLIN,
                                               [this, job](std::uint32_t) { read(job); }));
  return {};
}

Status Deputies::give_order(const std::string& job, const order::DeputyOrder& order,
                            const OwnedFd* fd) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return refusal("its deputy has gone");
  LocalSocket* const socket = found->second->program.socket();
  if (socket == nullptr) return refusal("its deputy takes no orders");
  std::vector<int> fds;
  if (fd != nullptr) fds.push_back(fd->get());
  // Kept by the deputy for whoever comes after us.
  if (order.has_outbound()) fds.push_back(socket->fd());
  const Status sent = socket->send(encode_message(order), fds, kNoWait);
  if (!sent) return sent.error().within("its deputy takes no orders");
  return {};
}

void Deputies::expect_exit(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return;
  found->second->timer = context_.loop.after(kExitPatience, [deputy = found->second.get()] {
    log_error("deputy {} does not exit though its process is not away: killed",
              deputy->program.pid());
    deputy->program.signal(SIGKILL);
  });
}

void Deputies::dismiss(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found != deputies_.end()) found->second->program.signal(SIGKILL);
}

void Deputies::read(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found != deputies_.end()) take_packet(job, *found->second);
}

/// One event; false if there is none now, or none will come.
bool Deputies::take_packet(const std::string& job, Deputy& deputy) {
  auto packet = deputy.program.socket()->receive(kNoWait, 0);
  if (!packet && packet.error().code == ETIMEDOUT) return false;
  if (!packet || !*packet) {
    deputy.watch.reset();  // its exit follows
    return false;
  }
  const auto event = decode_message<order::DeputyEvent>((*packet)->data, "deputy");
  if (event)
    handlers_.says(job, *event);
  else
    log_warn("deputy {}: {}", deputy.program.pid(), event.error().message());
  return true;
}

void Deputies::exited(const std::string& job, std::optional<int> wait_status) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return;
  // What it said last is still in the socket.
  while (found->second->watch.active() && take_packet(job, *found->second)) {
  }
  const std::unique_ptr<Deputy> deputy = std::move(found->second);
  deputies_.erase(found);
  deputy->watch.reset();
  deputy->end_watch.reset();
  handlers_.gone(job, wait_status, std::move(deputy->job_stderr));
}

}  // namespace drover
