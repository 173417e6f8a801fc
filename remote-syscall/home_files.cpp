#include "remote-syscall/home_files.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace drover {
namespace {

constexpr std::size_t kMostFiles = 64;
// What is read or written where the kernel might wait for the disk: no more than it does soon, for
// the deputy has its heartbeats to send.
constexpr std::uint64_t kMostWithWaiting = 128 << 10;
constexpr long kXfs = 0x58465342;         // XFS_SUPER_MAGIC
constexpr long kAtPosition = -1;          // of preadv2(2)
constexpr std::uint64_t kStatSize = 144;  // of the kernel's struct stat

/// File systems whose files look the same to whoever has them open, on disks of this machine.
bool is_local(long type) {
  return type == EXT4_SUPER_MAGIC || type == kXfs || type == BTRFS_SUPER_MAGIC ||
         type == F2FS_SUPER_MAGIC || type == TMPFS_MAGIC || type == OVERLAYFS_SUPER_MAGIC;
}

bool is_of_a_file(int number) {
  return number == SYS_read || number == SYS_pread64 || number == SYS_write ||
         number == SYS_pwrite64 || number == SYS_lseek || number == SYS_fstat;
}

bool has_position(int number) { return number == SYS_pread64 || number == SYS_pwrite64; }

/// Where an argument's data stand in the request; nothing if it is no pointer to such.
std::optional<std::uint32_t> data_of(const CallRequest& request, std::uint32_t argument) {
  for (const Relocation& relocation : request.relocations) {
    if (relocation.where == (Relocation::kArgument | argument)) return relocation.target;
  }
  return std::nullopt;
}

/// Whether a read came to its file's end, and not just to what was in memory.
bool at_end(int fd, const CallRequest& request, std::int64_t got) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return false;
  const bool positioned = has_position(request.number);
  const std::int64_t end =
      positioned ? static_cast<std::int64_t>(request.arguments[3]) + got : lseek(fd, 0, SEEK_CUR);
  return end >= st.st_size;
}

bool is_unlimited(pid_t pid, int resource) {
  rlimit limit{};
  return prlimit(pid, static_cast<__rlimit_resource>(resource), nullptr, &limit) == 0 &&
         limit.rlim_cur == RLIM_INFINITY;
}

}  // namespace

HomeFiles::HomeFiles(pid_t pid)
    : pid_(pid), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}

std::optional<std::int64_t> HomeFiles::execute(const CallRequest& request, Bytes& out) {
  if (!is_of_a_file(request.number)) return std::nullopt;
  File* file = this->file(static_cast<int>(request.arguments[0]));
  if (!file) return std::nullopt;
  switch (request.number) {
    case SYS_read:
    case SYS_pread64:
      return read(*file, request, out);
    case SYS_fstat:
      return stat(*file, request, out);
    case SYS_lseek:
      out.clear();
      return seek(*file, request);
    default:
      out.clear();
      return write(*file, request);
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

std::optional<std::int64_t> HomeFiles::read(File& file, const CallRequest& request, Bytes& out) {
  if (request.outs.size() != 1) return std::nullopt;
  const std::uint64_t length = request.arguments[2];
  if (length == 0 || request.outs[0].capacity != length) return std::nullopt;
  const long position =
      has_position(request.number) ? static_cast<long>(request.arguments[3]) : kAtPosition;
  if (has_position(request.number) && position < 0) return std::nullopt;
  out.resize(length);
  const auto read_on = [&](std::uint64_t done, int flags) {
    const iovec rest{out.data() + done, length - done};
    const long at = position == kAtPosition ? position : position + static_cast<long>(done);
    return preadv2(file.fd.get(), &rest, 1, at, flags);
  };
  ssize_t got = -1;
  if (file.reads_without_waiting) {
    got = read_on(0, RWF_NOWAIT);
    file.reads_without_waiting = got >= 0 || errno != EOPNOTSUPP;
  }
  if (!file.reads_without_waiting && length <= kMostWithWaiting) got = read_on(0, 0);
  if (got < 0) return std::nullopt;
  auto done = static_cast<std::uint64_t>(got);
  // The rest was not in memory. Another read of the same description could come in between; it
  // would be another that the kernel has cut in two.
  while (done < length && !at_end(file.fd.get(), request, static_cast<std::int64_t>(done))) {
    got = read_on(done, 0);
    if (got <= 0) break;
    done += static_cast<std::uint64_t>(got);
  }
  out.resize(done);
  return static_cast<std::int64_t>(done);
}

std::optional<std::int64_t> HomeFiles::write(const File& file, const CallRequest& request) {
  const std::uint64_t length = request.arguments[2];
  const auto from = data_of(request, 1);
  if (!from || length == 0 || length > kMostWithWaiting || *from > request.data.size() ||
      length > request.data.size() - *from || !may_write(file)) {
    return std::nullopt;
  }
  const std::byte* data = request.data.data() + *from;
  const std::int64_t done =
      request.number == SYS_pwrite64
          ? pwrite(file.fd.get(), data, length, static_cast<off_t>(request.arguments[3]))
          : ::write(file.fd.get(), data, length);
  // P may be allowed more, the last blocks of a disk for example: it says what goes wrong.
  return done < 0 ? std::nullopt : std::optional(done);
}

// With a limit, P would get SIGXFSZ. Who writes decides whether a file stays set-user-ID.
bool HomeFiles::may_write(const File& file) const {
  struct stat st {};
  return fstat(file.fd.get(), &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) == 0 &&
         is_unlimited(pid_, RLIMIT_FSIZE) && is_unlimited(0, RLIMIT_FSIZE);
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
  return fits && is_still(fd, duplicate) ? File{std::move(duplicate)} : File{};
}

// Another process may share P's table of descriptors, and change it.
bool HomeFiles::is_still(int fd, const OwnedFd& duplicate) const {
  return syscall(SYS_kcmp, pid_, getpid(), KCMP_FILE, fd, duplicate.get()) == 0;
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
