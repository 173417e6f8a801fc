#include "migrate/daemon_say.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>

namespace drover {
namespace {

constexpr unsigned kPatienceSeconds = 5;
constexpr unsigned kFirstPtsMajor = 136;  // Documentation/admin-guide/devices.txt
constexpr unsigned kLastPtsMajor = 143;
constexpr unsigned kConsoleMajor = 4;

struct DescriptorInfo {
  int flags = 0;
  std::uint64_t inode = 0;
  std::uint64_t mount = 0;
};

/// proc_pid_fdinfo(5): read at once, so that all of it is about one open file.
Result<DescriptorInfo> descriptor_info(const std::string& process, int fd) {
  const std::string path = "/proc/" + process + "/fdinfo/" + std::to_string(fd);
  std::ifstream file(path);
  DescriptorInfo info;
  bool inode_seen = false;
  for (std::string word; file >> word;) {
    if (word == "flags:") file >> std::oct >> info.flags >> std::dec;
    if (word == "mnt_id:") file >> info.mount;
    if (word == "ino:") inode_seen = static_cast<bool>(file >> info.inode);
  }
  if (!inode_seen) return refusal(path + ": does not name the inode");
  return info;
}

/// Files that are opened again without a side effect: regular ones, pipes and terminals.
bool may_be_opened_again(int path) {
  struct stat status {};
  if (::fstat(path, &status) < 0) return false;
  if (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode)) return true;
  const unsigned device = major(status.st_rdev);
  return S_ISCHR(status.st_mode) &&
         ((device >= kFirstPtsMajor && device <= kLastPtsMajor) || device == kConsoleMajor);
}

/// In a child that is thrown away. It writes as the job's user, so that a file which the user
/// chose cannot make us do what only root may.
[[noreturn]] void write_as_user(uid_t uid, gid_t gid, const char* link, const char* line,
                                std::size_t size) {
  ::alarm(kPatienceSeconds);
  const int fd = ::open(link, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  // The library's calls would want to tell all threads, which are not here any more.
  if (fd < 0 || ::syscall(SYS_setgroups, 0, nullptr) < 0 ||
      ::syscall(SYS_setresgid, gid, gid, gid) < 0 || ::syscall(SYS_setresuid, uid, uid, uid) < 0)
    ::_exit(1);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // our memory is not the user's to look into
  [[maybe_unused]] const ssize_t n = ::write(fd, line, size);
  ::_exit(0);
}

}  // namespace

Result<JobStderr> JobStderr::of(pid_t pid, uid_t uid, gid_t gid) {
  const std::string process = std::to_string(pid);
  const std::string link = "/proc/" + process + "/fd/2";
  OwnedFd path(::open(link.c_str(), O_PATH | O_CLOEXEC));
  if (!path) return errno_error(link);
  if (!may_be_opened_again(path.get())) return refusal(link + ": of a kind that is left alone");
  // What the process has open for writing, and nothing else, will be opened for writing again:
  // the check is about this very file, whatever the process does to its descriptor meanwhile.
  DROVER_TRY(const DescriptorInfo theirs, descriptor_info(process, STDERR_FILENO));
  DROVER_TRY(const DescriptorInfo ours, descriptor_info("self", path.get()));
  const int mode = theirs.flags & O_ACCMODE;
  if (mode != O_WRONLY && mode != O_RDWR) return refusal(link + ": not open for writing");
  if (theirs.inode != ours.inode || theirs.mount != ours.mount)
    return refusal(link + ": has just been changed");
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
