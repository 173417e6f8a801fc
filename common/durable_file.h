// Small files that are whole or not there, whatever dies when: keys, lists, serial numbers.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

/// Who may have access to a file that is read.
enum class FilePrivacy {
  kPublic,  ///< anybody may read it
  kSecret,  ///< a regular file of ours or of root's that no other user has any access to
};

/// The whole of the file at `path`, at most `limit` bytes (else EFBIG). A kSecret file that
/// others can get at, or that is a symbolic link, is refused.
Result<std::string> read_small_file(const std::string& path, std::size_t limit,
                                    FilePrivacy privacy = FilePrivacy::kPublic);

enum class IfExists { kReplace, kFail };

/// Writes the file at `path`: through a temporary one beside it, synced to disk with its
/// directory before this returns. With kFail a file that is already there is EEXIST, and stays.
Status write_durably(const std::string& path, std::string_view text, mode_t mode,
                     IfExists if_exists = IfExists::kReplace);

/// Makes the directory at `path` and those above it that are missing; `mode` is for the last.
Status make_directories(const std::string& path, mode_t mode);

/// Makes sure that `path` is a directory of ours or of root's that others cannot enter,
/// making it (mode 0700) if it is missing.
Status make_private_directory(const std::string& path);

/// Waits for the exclusive use of the directory at `path` (flock(2)) until the result goes.
Result<OwnedFd> lock_directory(const std::string& path);

}  // namespace drover
