#include "remote-syscall/home_files.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace drover {
namespace {

constexpr std::size_t kMostFiles = 64;
constexpr long kXfs = 0x58465342;         // XFS_SUPER_MAGIC
constexpr std::uint64_t kStatSize = 144;  // of the kernel's struct stat

/// File systems whose files look the same to whoever has them open, on disks of this machine.
bool is_local(long type) {
  return type == EXT4_SUPER_MAGIC || type == kXfs || type == BTRFS_SUPER_MAGIC ||
         type == F2FS_SUPER_MAGIC || type == TMPFS_MAGIC || type == OVERLAYFS_SUPER_MAGIC;
}

/// Whether nothing is behind a position: a read was not cut short by what was not in memory.
bool ends_at(int fd, off_t position) {
  struct stat st {};
  return fstat(fd, &st) == 0 && position >= st.st_size;
}

/// Ids of a file's owner are told as the asker's user namespace has them.
bool shares_user_namespace(pid_t pid) {
  struct stat own {};
  struct stat other {};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/user";
  return stat("/proc/self/ns/user", &own) == 0 && stat(path.c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

}  // namespace

HomeFiles::HomeFiles(pid_t pid)
    : pid_(pid), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {
  if (!shares_user_namespace(pid)) pidfd_.reset();  // P executes all
}

bool HomeFiles::is_of_a_file(const CallRequest& request) {
  const int number = request.number;
  return number == SYS_read || number == SYS_pread64 || number == SYS_lseek || number == SYS_fstat;
}

std::optional<std::int64_t> HomeFiles::execute(const CallRequest& request, Bytes& out) {
  if (!is_of_a_file(request)) return std::nullopt;
  File* file = this->file(static_cast<int>(request.arguments[0]));
  if (!file) return std::nullopt;
  switch (request.number) {
    case SYS_read:
    case SYS_pread64:
      return read(*file, request, out);
    case SYS_fstat:
      return stat(*file, request, out);
    default:
      out.clear();
      return seek(*file, request);
  }
}

std::optional<std::int64_t> HomeFiles::seek(const File& file, const CallRequest& request) {
  if (request.arguments[2] > SEEK_END) return std::nullopt;  // for data or holes: on the disk
  const std::int64_t at =
      syscall(SYS_lseek, file.fd.get(), request.arguments[1], request.arguments[2]);
  return at < 0 ? -errno : at;
}

std::optional<std::int64_t> HomeFiles::stat(const File& file, const CallRequest& request,
                                            Bytes& out) {
  if (request.outs.size() != 1 || request.outs[0].capacity != kStatSize) return std::nullopt;
  out.resize(kStatSize);
  if (syscall(SYS_fstat, file.fd.get(), out.data()) != 0) return std::nullopt;
  return 0;
}

std::optional<std::int64_t> HomeFiles::read(const File& file, const CallRequest& request,
                                            Bytes& out) {
  if (request.outs.size() != 1) return std::nullopt;
  const std::uint64_t length = request.arguments[2];
  if (length == 0 || request.outs[0].capacity != length) return std::nullopt;
  const int fd = file.fd.get();
  const bool positioned = request.number == SYS_pread64;
  const auto position =
      positioned ? static_cast<off_t>(request.arguments[3]) : lseek(fd, 0, SEEK_CUR);
  if (position < 0) return std::nullopt;
  out.resize(length);
  // Looked at first, which moves nothing: all of it or nothing, and never a wait for the disk.
  const iovec all{out.data(), out.size()};
  ssize_t got = preadv2(fd, &all, 1, position, file.in_memory ? 0 : RWF_NOWAIT);
  if (got < 0) return std::nullopt;
  if (static_cast<std::uint64_t>(got) < length && !ends_at(fd, position + got)) return std::nullopt;
  // By one call that moves the offset, as the kernel keeps others from it meanwhile.
  if (!positioned) got = ::read(fd, out.data(), length);
  if (got < 0) return std::nullopt;
  out.resize(static_cast<std::size_t>(got));
  return got;
}

HomeFiles::File* HomeFiles::file(int fd) {
  auto known = files_.find(fd);
  if (known != files_.end() && known->second.fd && !is_still(fd, known->second.fd)) {
    files_.erase(known);
    known = files_.end();
  }
  if (known == files_.end()) {
    if (files_.size() >= kMostFiles) files_.clear();
    auto inspected = inspect(fd);
    if (!inspected) return nullptr;
    known = files_.emplace(fd, *std::move(inspected)).first;
  }
  return known->second.fd ? &known->second : nullptr;
}

// Nothing: there is no such descriptor, or not for us.
std::optional<HomeFiles::File> HomeFiles::inspect(int fd) const {
  OwnedFd duplicate(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd_.get(), fd, 0)));
  if (!duplicate) return std::nullopt;
  struct stat st {};
  struct statfs fs {};
  const int flags = fcntl(duplicate.get(), F_GETFL);
  const bool fits = flags >= 0 && (flags & (O_DIRECT | O_PATH)) == 0 &&
                    fstat(duplicate.get(), &st) == 0 && S_ISREG(st.st_mode) &&
                    fstatfs(duplicate.get(), &fs) == 0 && is_local(fs.f_type);
  if (!fits || !is_still(fd, duplicate)) return File{};
  return File{std::move(duplicate), fs.f_type == TMPFS_MAGIC};
}

// Another process may share P's table of descriptors, and change it.
bool HomeFiles::is_still(int fd, const OwnedFd& duplicate) const {
  return syscall(SYS_kcmp, pid_, getpid(), KCMP_FILE, fd, duplicate.get()) == 0;
}

bool HomeFiles::is_changed_by(const CallRequest& request) {
  switch (request.number) {
    case SYS_close:
    case SYS_dup2:
    case SYS_dup3:
    case SYS_close_range:
      return true;
    case SYS_fcntl:
      return request.arguments[1] == F_SETFL;
    default:
      return false;
  }
}

// Those that use fdget_pos (fs/file.c).
bool HomeFiles::holds_position(const CallRequest& request) {
  switch (request.number) {
    case SYS_read:
    case SYS_readv:
    case SYS_preadv2:  // at a position of -1
    case SYS_write:
    case SYS_writev:
    case SYS_pwritev2:
    case SYS_lseek:
    case SYS_getdents:
    case SYS_getdents64:
      return true;
    default:
      return false;
  }
}

void HomeFiles::before_in_p(const CallRequest& request) {
  const auto& a = request.arguments;
  switch (request.number) {
    case SYS_close:
      files_.erase(static_cast<int>(a[0]));
      break;
    case SYS_fcntl:
      if (a[1] == F_SETFL) files_.erase(static_cast<int>(a[0]));
      break;
    case SYS_dup2:
    case SYS_dup3:
      files_.erase(static_cast<int>(a[1]));
      break;
    case SYS_close_range:
      forget_all();
      break;
    default:
      break;
  }
}

}  // namespace drover
