// The memory of another process.
#pragma once

#include <span>
#include <string>

#include "common/foreign_address.h"
#include "common/owned_fd.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

/// Reads and writes the memory of a process that we may trace.
///
/// Bulk goes through process_vm_readv(2) and process_vm_writev(2); what those refuse (pages
/// that the process itself may not write) goes through /proc/PID/mem, which may. That file is
/// opened once, so that a process which turns non-dumpable later stays reachable.
class ForeignMemory {
 public:
  ForeignMemory() = default;
  /// `mem` is an open /proc/PID/mem, or nothing to do without.
  ForeignMemory(pid_t pid, OwnedFd mem) : pid_(pid), mem_(std::move(mem)) {}

  /// Opens /proc/PID/mem of a process in our own pid namespace.
  static Result<ForeignMemory> of(pid_t pid);

  /// Fills `into`, or fails.
  Status read(ForeignAddress from, std::span<std::byte> into) const;
  /// Reads as far as memory is mapped: 0 if the first byte is not.
  Result<std::size_t> read_some(ForeignAddress from, std::span<std::byte> into) const;
  /// Writes all of `data`, or fails.
  Status write(ForeignAddress to, ByteView data) const;

  /// The same as the process itself could: without force on pages that it may not touch.
  std::size_t read_as_process(ForeignAddress from, std::span<std::byte> into) const;
  bool write_as_process(ForeignAddress to, ByteView data) const;

  template <class T>
  Result<T> read_record(ForeignAddress from) const {
    T value{};
    if (auto s = read(from, std::as_writable_bytes(std::span(&value, 1))); !s) return s.error();
    return value;
  }
  template <class T>
  Status write_record(ForeignAddress to, const T& value) const {
    return write(to, std::as_bytes(std::span(&value, 1)));
  }

  /// Whether this is the memory of a program that execve has replaced since it was opened, or that
  /// has ended.
  bool replaced() const;

  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  OwnedFd mem_;
};

}  // namespace drover
