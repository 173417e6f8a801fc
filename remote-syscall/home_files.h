// Calls on regular files that the deputy executes by itself, without a stop of P: on a duplicate
// of P's descriptor (pidfd_getfd(2)), which is the same open file description, with the same
// offset, flags and locks.
#pragma once

#include <map>
#include <optional>

#include "common/owned_fd.h"
#include "remote-syscall/marshal.h"

namespace drover {

class HomeFiles {
 public:
  /// Of a process that we trace, whose threads share their descriptors.
  explicit HomeFiles(pid_t pid);

  /// Executes a call, if it is read, pread64, lseek or fstat of a regular file of a local file
  /// system, would come to the same in P, and need not wait for the disk: the value is its result,
  /// `out` what it has written for the caller (into the first of the request's out ranges).
  /// Nothing: P is to execute it, and nothing has happened. Writes are P's: a file system that is
  /// frozen or behind with its disk would hold the deputy, and its heartbeats, for as long.
  std::optional<std::int64_t> execute(const CallRequest& request, Bytes& out);
  /// Whether it is one of those four.
  static bool is_of_a_file(const CallRequest& request);
  /// Whether a descriptor of P's is a regular file's, of a local file system.
  bool is_regular(int fd) { return file(fd) != nullptr; }

  /// To be called before P executes a call: duplicates of what it closes or replaces are closed,
  /// because they would keep locks and the ban on executing a file that is being written.
  void before_in_p(const CallRequest& request);
  void forget_all() { files_.clear(); }
  /// Whether it closes or replaces any. Until such a call is over, none may be executed by us.
  static bool is_changed_by(const CallRequest& request);
  /// Whether the kernel keeps the position of an open file from all others during the call. Until
  /// one of P's is over, however long a disk takes, we must not make another.
  static bool holds_position(const CallRequest& request);

 private:
  struct File {
    OwnedFd fd;              // none: P is to execute its calls
    bool in_memory = false;  // all of the file system
  };

  File* file(int fd);
  std::optional<File> inspect(int fd) const;
  bool is_still(int fd, const OwnedFd& duplicate) const;
  static std::optional<std::int64_t> seek(const File& file, const CallRequest& request);
  static std::optional<std::int64_t> stat(const File& file, const CallRequest& request, Bytes& out);
  static std::optional<std::int64_t> read(const File& file, const CallRequest& request, Bytes& out);

  pid_t pid_;
  OwnedFd pidfd_;
  std::map<int, File> files_;
};

}  // namespace drover
