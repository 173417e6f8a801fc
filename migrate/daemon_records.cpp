#include "migrate/daemon_records.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "common/durable_file.h"
#include "common/log.h"
#include "common/names.h"

namespace drover {
namespace {

constexpr char kLockName[] = "/migrated.lock";
constexpr char kBootFile[] = "boot";
constexpr std::size_t kLongestBootId = 64;
constexpr mode_t kOurs = 0600;

/// The names of files that are still being written have a dot.
bool is_record(const std::string& name) {
  return name != kBootFile && valid_name(name) && name.find('.') == std::string::npos;
}

}  // namespace

// A lock of fcntl(2), unlike one of flock(2), is not inherited by what we fork, and names its
// holder.
Result<OwnedFd> claim_run_directory(const std::string& run_dir) {
  const std::string path = run_dir + kLockName;
  OwnedFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kOurs));
  if (!file) return errno_error(path);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_SETLK, &lock) == 0) return file;
  if (errno != EAGAIN && errno != EACCES) return errno_error(path);
  lock.l_pid = 0;
  ::fcntl(file.get(), F_GETLK, &lock);
  return refusal(run_dir + ": another migrated works here already, process " +
                 std::to_string(lock.l_pid));
}

Result<RecordStore> RecordStore::open(const std::string& directory, const std::string& boot) {
  DROVER_CHECK(make_private_directory(directory));
  RecordStore store(directory);
  const auto written =
      read_small_file(directory + "/" + kBootFile, kLongestBootId, FilePrivacy::kSecret);
  if (written && *written == boot) return store;
  store.clear();
  DROVER_CHECK(write_durably(directory + "/" + kBootFile, boot, kOurs));
  return store;
}

Status RecordStore::put(const std::string& name, std::string_view record) const {
  if (!is_record(name)) return refusal("record: not a name");
  if (record.size() > kLargest) return Error{EFBIG, path(name)};
  return write_durably(path(name), record, kOurs);
}

void RecordStore::remove(const std::string& name) const { ::unlink(path(name).c_str()); }

std::map<std::string, std::string> RecordStore::all() const {
  std::map<std::string, std::string> records;
  each_file([&](const std::string& name) {
    if (name == kBootFile) return;
    auto record = read_small_file(path(name), kLargest, FilePrivacy::kSecret);
    if (record && is_record(name)) {
      records.emplace(name, *std::move(record));
      return;
    }
    if (!record) log_warn("record dropped: {}", record.error().message());
    remove(name);
  });
  return records;
}

void RecordStore::clear() const {
  each_file([&](const std::string& name) { remove(name); });
}

void RecordStore::each_file(const std::function<void(const std::string& name)>& handler) const {
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error))
    names.push_back(entry.path().filename().string());
  for (const std::string& name : names) handler(name);
}

std::string RecordStore::path(const std::string& name) const { return directory_ + "/" + name; }

Result<std::string> own_boot_id() {
  return read_small_file("/proc/sys/kernel/random/boot_id", kLongestBootId);
}

}  // namespace drover
