#include "migrate/content_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "common/log.h"

namespace drover {

namespace {

constexpr mode_t kFinishedMode = 0444;
constexpr std::string_view kUnfinished = ".filling-";

bool is_scope(std::string_view scope) {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !scope.empty() && scope.size() <= 200 && scope.front() != '.' &&
         scope.find_first_not_of(kAllowed) == std::string_view::npos;
}

bool is_key(std::string_view name) {
  return name.size() == 2 * sizeof(ContentKey) &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Errors of a disk that is full or bad, as opposed to errors of the caller.
bool is_of_the_disk(int code) {
  return code == ENOSPC || code == EDQUOT || code == EFBIG || code == EIO || code == EROFS;
}

/// Calls `each` with the names in a directory.
template <class Each>
void for_each_name(const OwnedFd& directory, const char* name, Each each) {
  const int fd = openat(directory.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* const open = fd >= 0 ? fdopendir(fd) : nullptr;
  if (!open) {
    if (fd >= 0) close(fd);
    return;
  }
  while (const dirent* entry = readdir(open)) each(dirfd(open), std::string(entry->d_name));
  closedir(open);
}

/// Removes an unfinished file unless its filler, which holds a lock on it, is alive.
void remove_if_abandoned(int directory, const std::string& name) {
  const OwnedFd file(openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (file && flock(file.get(), LOCK_EX | LOCK_NB) == 0) unlinkat(directory, name.c_str(), 0);
}

std::int64_t nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

}  // namespace

std::string private_scope(const std::string& home, std::uint32_t uid) {
  return "u" + std::to_string(uid) + "-" + home;
}

struct ContentCache::Stored {
  std::int64_t used_ns;
  std::uint64_t size;
  std::string name;
};

Result<ContentCache> ContentCache::open(const std::string& directory, std::uint64_t limit_bytes) {
  const std::string what = "cache " + directory;
  if (mkdir(directory.c_str(), 0700) < 0 && errno != EEXIST) return errno_error(what);
  OwnedFd opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  struct statvfs mount;
  if (!opened || fstat(opened.get(), &status) < 0 || fstatvfs(opened.get(), &mount) < 0) {
    return errno_error(what);
  }
  if (status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
    return refusal(what + ": belongs to, or can be written by, another user");
  }
  if (mount.f_flag & ST_NOEXEC) return refusal(what + ": is mounted noexec");
  ContentCache cache(std::move(opened), limit_bytes);
  for_each_name(cache.directory_, ".", [&](int, const std::string& scope) {
    if (!is_scope(scope)) return;
    for_each_name(cache.directory_, scope.c_str(), [](int within, const std::string& name) {
      if (name.starts_with(kUnfinished)) remove_if_abandoned(within, name);
    });
  });
  cache.count();
  return cache;
}

Result<std::optional<OwnedFd>> ContentCache::find(std::string_view scope, const ContentKey& key) {
  const std::string file_name = hexadecimal(key);
  const auto directory = open_scope(scope, false);
  if (!directory && directory.error().code == ENOENT) return std::optional<OwnedFd>{};
  if (!directory) return directory.error();
  OwnedFd file(openat(directory->get(), file_name.c_str(),
                      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::optional<OwnedFd>{};
  if (!file) return errno_error("cache: open " + file_name);
  const std::string name = std::string(scope) + "/" + file_name;
  if (const auto wrong = fault(file, name, key)) {
    log_warn("cache: {}: {}; removed", name, *wrong);
    verified_.erase(name);
    if (unlinkat(directory->get(), file_name.c_str(), 0) == 0) count();
    return std::optional<OwnedFd>{};
  }
  note_use(file, name);
  return std::optional(std::move(file));
}

std::optional<std::string> ContentCache::fault(const OwnedFd& file, const std::string& name,
                                               const ContentKey& key) {
  struct stat status;
  if (fstat(file.get(), &status) < 0) return std::strerror(errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || status.st_nlink != 1 ||
      (status.st_mode & 07777) != kFinishedMode) {
    return "is not as the cache had left it";
  }
  const auto known = verified_.find(name);
  if (known != verified_.end() && known->second == stamp_of(status)) return std::nullopt;
  const auto actual = hash_file(file, static_cast<std::uint64_t>(status.st_size));
  if (!actual) return actual.error().message();
  if (*actual != key) return "has other bytes than its name says";
  return std::nullopt;
}

void ContentCache::note_use(const OwnedFd& file, const std::string& name) {
  futimens(file.get(), nullptr);
  struct stat status;
  if (fstat(file.get(), &status) == 0) verified_[name] = stamp_of(status);
}

Result<std::unique_ptr<ContentCache::CacheFilling>> ContentCache::fill(std::string_view scope,
                                                                       const ContentKey& key,
                                                                       std::uint64_t size) {
  const std::string name = std::string(scope) + "/" + hexadecimal(key);
  const auto in_memory = [&]() -> Result<std::unique_ptr<CacheFilling>> {
    DROVER_TRY(OwnedFd file, make_memory_file(size));
    return std::unique_ptr<CacheFilling>(
        new CacheFilling(*this, name, key, OwnedFd(), "", HashedFile(std::move(file), size)));
  };
  if (!is_scope(scope)) return refusal("cache: '" + std::string(scope) + "' is not a scope");
  if (filling_ > limit_ || size > limit_ - filling_) return in_memory();
  auto directory = open_scope(scope, true);
  if (!directory) {
    if (is_of_the_disk(directory.error().code)) return in_memory();
    return directory.error();
  }
  static unsigned number = 0;
  const std::string temporary =
      std::string(kUnfinished) + std::to_string(getpid()) + "-" + std::to_string(++number);
  OwnedFd file(openat(directory->get(), temporary.c_str(),
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  const bool made = file.valid();
  if (made && flock(file.get(), LOCK_EX | LOCK_NB) == 0 &&
      ftruncate(file.get(), static_cast<off_t>(size)) == 0) {
    return std::unique_ptr<CacheFilling>(new CacheFilling(
        *this, name, key, *std::move(directory), temporary, HashedFile(std::move(file), size)));
  }
  const Error error = errno_error("cache: make " + temporary);
  if (made) unlinkat(directory->get(), temporary.c_str(), 0);
  if (is_of_the_disk(error.code)) return in_memory();
  return error;
}

ContentCache::Stamp ContentCache::stamp_of(const struct stat& status) {
  return {status.st_ino, status.st_size, nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}

Result<OwnedFd> ContentCache::open_scope(std::string_view scope, bool create) const {
  if (!is_scope(scope)) return refusal("cache: '" + std::string(scope) + "' is not a scope");
  const std::string name(scope);
  if (create && mkdirat(directory_.get(), name.c_str(), 0700) < 0 && errno != EEXIST) {
    return errno_error("cache: make scope " + name);
  }
  OwnedFd opened(
      openat(directory_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!opened) return errno_error("cache: open scope " + name);
  return opened;
}

template <class Each>
void ContentCache::for_each_file(Each each) const {
  for_each_name(directory_, ".", [&](int, const std::string& scope) {
    if (!is_scope(scope)) return;
    for_each_name(directory_, scope.c_str(), [&](int within, const std::string& name) {
      struct stat status;
      if (!is_key(name) || fstatat(within, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return;
      each(Stored{nanoseconds(status.st_mtim), static_cast<std::uint64_t>(status.st_size),
                  scope + "/" + name});
    });
  });
}

void ContentCache::count() {
  used_ = 0;
  for_each_file([&](const Stored& stored) { used_ += stored.size; });
}

void ContentCache::make_room(std::uint64_t bytes) {
  const auto fits = [&] { return used_ + bytes <= limit_; };
  if (fits()) return;
  // Another program may have changed the cache since we counted.
  std::vector<Stored> all;
  for_each_file([&](Stored stored) { all.push_back(std::move(stored)); });
  used_ = 0;
  for (const Stored& stored : all) used_ += stored.size;
  std::sort(all.begin(), all.end(),
            [](const Stored& a, const Stored& b) { return a.used_ns < b.used_ns; });
  for (const Stored& stored : all) {
    if (fits()) return;
    if (unlinkat(directory_.get(), stored.name.c_str(), 0) < 0 && errno != ENOENT) continue;
    verified_.erase(stored.name);
    used_ -= stored.size;
  }
}

ContentCache::CacheFilling::CacheFilling(ContentCache& cache, std::string name,
                                         const ContentKey& key, OwnedFd scope,
                                         std::string temporary, HashedFile file)
    : cache_(cache),
      name_(std::move(name)),
      key_(key),
      scope_(std::move(scope)),
      temporary_(std::move(temporary)),
      file_(std::move(file)) {
  if (!temporary_.empty()) cache_.filling_ += file_.size();
}

ContentCache::CacheFilling::~CacheFilling() { drop_temporary(); }

void ContentCache::CacheFilling::drop_temporary() {
  if (temporary_.empty()) return;
  unlinkat(scope_.get(), temporary_.c_str(), 0);
  temporary_.clear();
  cache_.filling_ -= file_.size();
}

Status ContentCache::CacheFilling::write(std::uint64_t offset, ByteView data) {
  Status status = file_.write(offset, data);
  if (status || temporary_.empty() || !is_of_the_disk(status.error().code)) return status;
  log_info("cache: {}; this content stays in memory", status.error().message());
  DROVER_CHECK(move_to_memory());
  return file_.write(offset, data);
}

Status ContentCache::CacheFilling::move_to_memory() {
  DROVER_TRY(OwnedFd memory, make_memory_file(file_.size()));
  DROVER_CHECK(file_.continue_in(std::move(memory)));
  drop_temporary();
  return {};
}

Result<OwnedFd> ContentCache::CacheFilling::finish() {
  DROVER_CHECK(file_.verify(key_));
  if (temporary_.empty()) return seal_memory_file(file_.take());
  return publish();
}

Result<OwnedFd> ContentCache::CacheFilling::publish() {
  OwnedFd read_only(openat(scope_.get(), temporary_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!read_only || fchmod(read_only.get(), kFinishedMode) < 0) {
    return errno_error("cache: finish " + name_);
  }
  // Before others can find it: nobody but us has ever had the writable descriptor.
  const OwnedFd writable = file_.take();
  const std::string final_name = hexadecimal(key_);
  const bool replaces = faccessat(scope_.get(), final_name.c_str(), F_OK, 0) == 0;
  if (!replaces) cache_.make_room(file_.size());
  if (renameat(scope_.get(), temporary_.c_str(), scope_.get(), final_name.c_str()) == 0) {
    temporary_.clear();
    cache_.filling_ -= file_.size();
    if (!replaces) cache_.used_ += file_.size();
    cache_.note_use(read_only, name_);
  } else {
    // The content is whole and verified all the same: the body can have it, others cannot.
    log_warn("cache: keep {}: {}", name_, std::strerror(errno));
    drop_temporary();
  }
  return read_only;
}

}  // namespace drover
