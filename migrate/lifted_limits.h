// The limits of P's memory while it is filled again: what is ours, and what is there only until the
// rest has been laid out, shall not count against the program.
#pragma once

#include "common/process/limits.h"
#include "migrate/image.h"
#include "remote-syscall/hollow_thread.h"

namespace drover {

class LiftedLimits {
 public:
  /// `thread` is P's leading one, stopped. Both outlive this.
  LiftedLimits(const HollowThread& thread, const ForeignMemory& memory)
      : thread_(&thread), memory_(&memory) {}

  /// Raises the soft limits as far as the process may. If even then they are limits, the scratch is
  /// cut down to what a homecoming takes, and what the layout has no room for is unmapped, but for
  /// `kept`.
  Status lift(const Layout& layout, ForeignRange kept);
  /// Puts the soft limits back: before P goes on at home.
  Status put_back();
  /// The homecoming has failed: P is to serve on, with all of its scratch.
  Status undo();

 private:
  Status set(Injection& injection, const MemoryLimits& limits) const;
  Status cut_down(Injection& injection, const Layout& layout, ForeignRange kept);
  Status grow_again(Injection& injection) const;
  Status unmap_program(Injection& injection) const;

  const HollowThread* thread_;
  const ForeignMemory* memory_;
  std::optional<MemoryLimits> before_;
  bool cut_down_ = false;
};

}  // namespace drover
