// A thread made in another process on our behalf.
#pragma once

#include <linux/sched.h>

#include <cstdint>

#include "common/process/foreign_memory.h"
#include "common/process/injection.h"
#include "common/process/scratch.h"
#include "common/process/traced_thread.h"

namespace drover {

struct NewThread {
  /// What clone3(2) returned: the thread's id as the process sees it, or a negative errno.
  std::int64_t result = 0;
  /// If that is an id. It has not run yet; it is in the midst of its maker's injected call.
  TracedThread thread;
  /// It was born into a stop of the process.
  bool in_group_stop = false;
};

/// Makes the process of a stopped thread one thread more, which is traced by us as its maker is; it
/// has the maker's signal mask. `memory` and `scratch` are the maker's. `wanted` is without an id;
/// `id`, if not 0, is the one that the thread is to have: the process may choose (clone3(2),
/// set_tid).
Result<NewThread> make_thread(const TracedThread& maker, const ForeignMemory& memory,
                              const Scratch& scratch, clone_args wanted, std::int32_t id = 0);

}  // namespace drover
