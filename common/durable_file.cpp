#include "common/durable_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace drover {
namespace {

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

bool owned_by_us_or_root(const struct stat& status) {
  return status.st_uid == ::geteuid() || status.st_uid == 0;
}

Status write_and_sync(int fd, std::string_view text, mode_t mode) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("write");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fchmod(fd, mode) < 0) return errno_error("chmod");
  if (::fsync(fd) < 0) return errno_error("sync");
  return {};
}

Status sync_directory(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) < 0) return errno_error(path);
  return {};
}

}  // namespace

Result<std::string> read_small_file(const std::string& path, std::size_t limit,
                                    FilePrivacy privacy) {
  const bool secret = privacy == FilePrivacy::kSecret;
  const OwnedFd fd(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | (secret ? O_NOFOLLOW : 0)));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) < 0) return errno_error(path);
  if (!S_ISREG(status.st_mode)) return refusal(path + ": not a regular file");
  if (secret && !owned_by_us_or_root(status)) return refusal(path + ": belongs to another user");
  if (secret && (status.st_mode & 077) != 0)
    return refusal(path + ": open to other users: its mode must be 0600");
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(path);
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > limit) return Error{EFBIG, path};
  }
}

Status write_durably(const std::string& path, std::string_view text, mode_t mode,
                     IfExists if_exists) {
  std::string temporary = path + ".XXXXXX";
  const OwnedFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return errno_error(path);
  Status status = write_and_sync(fd.get(), text, mode);
  const unsigned flags = if_exists == IfExists::kFail ? RENAME_NOREPLACE : 0;
  if (status && ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), flags) < 0)
    status = Error{errno, "rename"};
  if (!status) {
    ::unlink(temporary.c_str());
    return Error{status.error().code, path};
  }
  return sync_directory(directory_of(path));
}

Status make_directories(const std::string& path, mode_t mode) {
  std::error_code code;
  const std::string parent = directory_of(path);
  if (parent != path) std::filesystem::create_directories(parent, code);
  if (code) return Error{code.value(), parent};
  if (::mkdir(path.c_str(), mode) < 0 && errno != EEXIST) return errno_error(path);
  if (!std::filesystem::is_directory(path, code)) return Error{ENOTDIR, path};
  return {};
}

Status make_private_directory(const std::string& path) {
  DROVER_CHECK(make_directories(path, 0700));
  struct stat status {};
  if (::lstat(path.c_str(), &status) < 0) return errno_error(path);
  if (!S_ISDIR(status.st_mode)) return Error{ENOTDIR, path};
  if (!owned_by_us_or_root(status)) return refusal(path + ": belongs to another user");
  if ((status.st_mode & 077) != 0)
    return refusal(path + ": open to other users: its mode must be 0700");
  return {};
}

Result<OwnedFd> lock_directory(const std::string& path) {
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(path);
  while (::flock(fd.get(), LOCK_EX) < 0)
    if (errno != EINTR) return errno_error(path);
  return fd;
}

}  // namespace drover
