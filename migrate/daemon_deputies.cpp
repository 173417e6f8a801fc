#include "migrate/daemon_deputies.h"

#include <sys/wait.h>

#include <csignal>

#include "common/log.h"
#include "migrate/messages.h"

namespace drover {
namespace {

constexpr std::chrono::milliseconds kNoWait{0};

}  // namespace

Status Deputies::start(const Job& job) {
  const std::string id = job.id;
  auto job_stderr = JobStderr::of(job.pid, job.uid, job.gid);
  DROVER_TRY(Spawned spawned, spawn_deputy(context_.settings.spawn, job.pid));
  auto deputy = std::make_unique<Deputy>(std::move(spawned));
  if (job_stderr) deputy->job_stderr = *std::move(job_stderr);
  const pid_t pid = deputy->spawned.pid;
  auto watch = context_.loop.watch(deputy->spawned.socket.fd(), EPOLLIN,
                                   [this, id](std::uint32_t) { read(id); });
  if (!watch) {
    ::kill(pid, SIGKILL);
    return watch.error();
  }
  deputy->watch = *std::move(watch);
  children_.expect(pid, [this, id](int status) { exited(id, status); });
  deputies_[id] = std::move(deputy);
  return {};
}

Status Deputies::give_order(const std::string& job, const order::DeputyOrder& order,
                            const OwnedFd* fd) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return refusal("its deputy has gone");
  const int raw = fd ? fd->get() : -1;
  const auto fds = fd ? std::span<const int>(&raw, 1) : std::span<const int>();
  const Status sent = found->second->spawned.socket.send(encode_message(order), fds, kNoWait);
  if (!sent) return sent.error().within("its deputy takes no orders");
  return {};
}

void Deputies::expect_exit(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return;
  found->second->timer = context_.loop.after(kExitPatience, [pid = found->second->spawned.pid] {
    log_error("deputy {} does not exit though its process is not away: killed", pid);
    ::kill(pid, SIGKILL);
  });
}

void Deputies::dismiss(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found != deputies_.end()) ::kill(found->second->spawned.pid, SIGKILL);
}

void Deputies::read(const std::string& job) {
  const auto found = deputies_.find(job);
  if (found != deputies_.end()) take_packet(job, *found->second);
}

/// One event; false if there is none now, or none will come.
bool Deputies::take_packet(const std::string& job, Deputy& deputy) {
  auto packet = deputy.spawned.socket.receive(kNoWait, 0);
  if (!packet && packet.error().code == ETIMEDOUT) return false;
  if (!packet || !*packet) {
    deputy.watch.reset();  // its exit follows
    return false;
  }
  const auto event = decode_message<order::DeputyEvent>((*packet)->data, "deputy");
  if (event)
    handlers_.says(job, *event);
  else
    log_warn("deputy {}: {}", deputy.spawned.pid, event.error().message());
  return true;
}

void Deputies::exited(const std::string& job, int wait_status) {
  const auto found = deputies_.find(job);
  if (found == deputies_.end()) return;
  // What it said last is still in the socket.
  while (found->second->watch.active() && take_packet(job, *found->second)) {
  }
  const std::unique_ptr<Deputy> deputy = std::move(found->second);
  deputies_.erase(found);
  deputy->watch.reset();
  handlers_.gone(job, wait_status, std::move(deputy->job_stderr));
}

}  // namespace drover
