#include "migrate/daemon_programs.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <filesystem>

#include "migrate/jobs_process.h"

namespace drover {
namespace {

Result<OwnedFd> open_pidfd(pid_t pid) {
  OwnedFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return errno_error(fmt::format("process {}", pid));
  return fd;
}

Result<std::uint64_t> socket_cookie(int fd) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0) return errno_error("SO_COOKIE");
  return cookie;
}

Result<ProgramIdentity> identify(pid_t pid, int socket) {
  ProgramIdentity identity;
  identity.pid = pid;
  DROVER_TRY(const ProcessStatus process, read_process(pid));
  identity.start_ticks = process.start_ticks;
  struct stat status {};
  if (::fstat(socket, &status) < 0) return errno_error("socket");
  identity.socket_inode = status.st_ino;
  DROVER_TRY(identity.socket_cookie, socket_cookie(socket));
  return identity;
}

/// The descriptor by which the process has that socket, if it has.
std::optional<int> descriptor_of(pid_t pid, std::uint64_t socket_inode) {
  const std::string wanted = fmt::format("socket:[{}]", socket_inode);
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
    if (std::filesystem::read_symlink(entry.path(), error) != wanted) continue;
    const std::string name = entry.path().filename();
    int number = -1;
    if (std::from_chars(name.data(), name.data() + name.size(), number).ec == std::errc())
      return number;
  }
  return std::nullopt;
}

}  // namespace

Result<Program> Program::started(Spawned spawned) {
  const auto make = [&]() -> Result<Program> {
    DROVER_TRY(OwnedFd pidfd, open_pidfd(spawned.pid));
    DROVER_TRY(const ProgramIdentity identity, identify(spawned.pid, spawned.socket.fd()));
    return Program(identity, std::move(pidfd));
  };
  auto program = make();
  if (program)
    program->socket_ = std::move(spawned.socket);
  else
    ::kill(spawned.pid, SIGKILL);
  return program;
}

Result<Program> Program::find(const ProgramIdentity& identity) {
  const Error gone{ESRCH, fmt::format("process {}", identity.pid)};
  if (identity.pid <= 0) return gone;
  // In this order: what has the pid after the pidfd was opened and began when ours did, is ours.
  DROVER_TRY(OwnedFd pidfd, open_pidfd(identity.pid));
  DROVER_TRY(const ProcessStatus process, read_process(identity.pid));
  if (process.start_ticks != identity.start_ticks) return gone;
  return Program(identity, std::move(pidfd));
}

Status Program::reclaim_socket() {
  const auto number = descriptor_of(identity_.pid, identity_.socket_inode);
  if (!number) return Error{ENOENT, "its socket to migrated"};
  OwnedFd socket(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd_.get(), *number, 0)));
  if (!socket) return errno_error("its socket to migrated");
  // It may have put something else in that place.
  const auto cookie = socket_cookie(socket.get());
  if (!cookie || *cookie != identity_.socket_cookie) return Error{ENOENT, "its socket to migrated"};
  socket_.emplace(std::move(socket));
  return {};
}

void Program::signal(int number) const {
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

}  // namespace drover
