// The one mapping of ours in a process that is away, or about to be: a page of code that
// executes system calls, and room for the buffers of forwarded calls.
#pragma once

#include "common/foreign_address.h"
#include "common/process/foreign_memory.h"

namespace drover {

/// Where things stand in the mapping. The same range is kept free in the body, so that what
/// the program maps while away never stands in the way at home.
class Scratch {
 public:
  static constexpr std::uint64_t kDataOffset = 32 * kPageSize;
  static constexpr std::uint64_t kDataSize = 17ULL << 20;
  static constexpr std::uint64_t kSize = kDataOffset + kDataSize;

  Scratch() = default;
  explicit Scratch(ForeignAddress start) : start_(start) {}

  bool exists() const { return !start_.is_null(); }
  ForeignRange range() const { return {start_, start_ + kSize}; }
  /// `syscall; int3`: one stop a call, deadly without a tracer.
  ForeignAddress trapping_call() const { return start_; }
  /// `syscall; int3` is preceded by nothing: where a finished trapping call stops.
  ForeignAddress after_trap() const { return start_ + 3; }
  /// pause(2) for ever.
  ForeignAddress pause_loop() const { return start_ + 64; }
  ForeignAddress data() const { return start_ + kDataOffset; }

  /// Writes the code page. The mapping must exist and be writable.
  Status write_code(const ForeignMemory& memory) const;

 private:
  ForeignAddress start_;
};

}  // namespace drover
