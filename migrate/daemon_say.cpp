#include "migrate/daemon_say.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

namespace drover {
namespace {

constexpr unsigned kPatienceSeconds = 5;

/// O_ACCMODE of an open descriptor (proc_pid_fdinfo(5)), or -1.
int access_mode(pid_t pid, int fd) {
  std::ifstream info("/proc/" + std::to_string(pid) + "/fdinfo/" + std::to_string(fd));
  std::string word;
  while (info >> word)
    if (word == "flags:") {
      unsigned flags = 0;
      return info >> std::oct >> flags ? static_cast<int>(flags & O_ACCMODE) : -1;
    }
  return -1;
}

/// In a child that is thrown away: as the job's user, so that a descriptor which the user chose
/// cannot make us write where only root may.
[[noreturn]] void write_as_user(uid_t uid, gid_t gid, const char* link, const char* line,
                                std::size_t size) {
  ::alarm(kPatienceSeconds);
  // The library's calls would want to tell all threads, which are not here any more.
  if (::syscall(SYS_setgroups, 0, nullptr) < 0 || ::syscall(SYS_setresgid, gid, gid, gid) < 0 ||
      ::syscall(SYS_setresuid, uid, uid, uid) < 0)
    ::_exit(1);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // our memory is not the user's to look into
  const int fd = ::open(link, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) {
    [[maybe_unused]] const ssize_t n = ::write(fd, line, size);
  }
  ::_exit(0);
}

}  // namespace

Result<JobStderr> JobStderr::of(pid_t pid, uid_t uid, gid_t gid) {
  const int mode = access_mode(pid, STDERR_FILENO);
  if (mode != O_WRONLY && mode != O_RDWR) return refusal("stderr is not open for writing");
  const std::string link = "/proc/" + std::to_string(pid) + "/fd/2";
  OwnedFd path(::open(link.c_str(), O_PATH | O_CLOEXEC));
  if (!path) return errno_error(link);
  return JobStderr(std::move(path), uid, gid);
}

void JobStderr::say(const std::string& line) const {
  if (!path_) return;
  const std::string text = line + "\n";
  const std::string link = "/proc/self/fd/" + std::to_string(path_.get());
  if (::fork() == 0) write_as_user(uid_, gid_, link.c_str(), text.data(), text.size());
  // Reaped by Children.
}

}  // namespace drover
