// What migrated has to know again after a restart: small files below its run directory.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// Makes this program the only one of its kind that works in `run_dir`, until the result goes or
/// the program ends. An error that names the other if there is one.
Result<OwnedFd> claim_run_directory(const std::string& run_dir);

/// Named records in a directory that only root can enter. A record is whole or not there. What
/// was written before the machine was booted is not there either, wherever the directory is.
class RecordStore {
 public:
  /// Makes the directory if it is missing. `boot` tells this boot from others (own_boot_id).
  static Result<RecordStore> open(const std::string& directory, const std::string& boot);

  /// `name` is made of small letters, digits and dashes.
  Status put(const std::string& name, std::string_view record) const;
  void remove(const std::string& name) const;
  /// All records, by name. What is not one, or cannot be read, is left out, removed and logged.
  std::map<std::string, std::string> all() const;

  static constexpr std::size_t kLargest = 256 * 1024;

 private:
  explicit RecordStore(std::string directory) : directory_(std::move(directory)) {}
  std::string path(const std::string& name) const;
  void clear() const;
  void each_file(const std::function<void(const std::string& name)>& handler) const;

  std::string directory_;
};

/// /proc/sys/kernel/random/boot_id, another for every boot (random(4)).
Result<std::string> own_boot_id();

}  // namespace drover
