// The one mapping of ours in a process that is away, or about to be: a page of code that
// executes system calls, and room for the buffers of forwarded calls.
#pragma once

#include "common/foreign_address.h"
#include "common/process/foreign_memory.h"

namespace drover {

/// Where things stand in the mapping, as one thread of the process uses it: the code is for all,
/// room for data each has its own. The same range is kept free in the body, so that what the
/// program maps while away never stands in the way at home.
class Scratch {
 public:
  static constexpr std::uint64_t kDataOffset = 32 * kPageSize;
  static constexpr std::uint64_t kDataSize = 17ULL << 20;

  /// Of the whole mapping, for a process of so many threads.
  static constexpr std::uint64_t size_for(std::size_t threads) {
    return kDataOffset + threads * kDataSize;
  }
  /// For how many threads a mapping of this size is; 0 if it is none.
  static constexpr std::size_t threads_for(std::uint64_t size) {
    return size > kDataOffset && (size - kDataOffset) % kDataSize == 0
               ? (size - kDataOffset) / kDataSize
               : 0;
  }

  /// Of a thread's room for data, what calls of ours need; the rest is for the program's.
  static constexpr std::uint64_t kOwnDataSize = 8 * kPageSize;
  /// What is left of a mapping if the rooms are cut down to that.
  static constexpr std::uint64_t least_size_for(std::size_t threads) {
    return kDataOffset + threads * kOwnDataSize;
  }

  Scratch() = default;
  /// As the first thread uses it.
  explicit Scratch(ForeignAddress start, std::size_t threads = 1)
      : start_(start), threads_(threads) {}
  /// As another one does, whose room is number `thread`, from 0.
  Scratch of_thread(std::size_t thread) const {
    Scratch other = *this;
    other.thread_ = thread;
    return other;
  }
  std::size_t thread() const { return thread_; }
  /// For so many threads there is room.
  std::size_t threads() const { return threads_; }

  bool exists() const { return !start_.is_null(); }
  ForeignRange range() const { return {start_, start_ + size_for(threads_)}; }
  /// `syscall; int3`: one stop a call, deadly without a tracer.
  ForeignAddress trapping_call() const { return start_; }
  /// The instruction pointer that a seccomp filter is shown in such a call.
  ForeignAddress in_trapping_call() const { return start_ + 2; }
  /// `syscall; int3` is preceded by nothing: where a finished trapping call stops.
  ForeignAddress after_trap() const { return start_ + 3; }
  /// pause(2) for ever.
  ForeignAddress pause_loop() const { return start_ + 64; }
  /// Makes the calls of a table that rbx leads to, up to one that fails; then it traps. A row is
  /// the number, six arguments and the result; behind the last one is -1.
  ForeignAddress calls_in_a_row() const { return start_ + 96; }
  /// Where those stop.
  ForeignAddress after_calls_in_a_row() const { return start_ + 96 + 51; }
  /// kDataSize bytes.
  ForeignAddress data() const { return start_ + kDataOffset + thread_ * kDataSize; }
  /// Part of that: for the table of calls that are made in a row.
  ForeignAddress table() const { return data() + 4 * kPageSize; }

  /// Writes the code page. The mapping must exist and be writable.
  Status write_code(const ForeignMemory& memory) const;

 private:
  ForeignAddress start_;
  std::size_t threads_ = 1;
  std::size_t thread_ = 0;
};

}  // namespace drover
