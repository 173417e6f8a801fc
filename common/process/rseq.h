// Restartable sequences (rseq(2), include/uapi/linux/rseq.h) of a stopped thread.
#pragma once

#include "common/process/foreign_memory.h"
#include "common/process/traced_thread.h"

namespace drover {

/// If the thread was stopped inside an active rseq critical section, moves it to the section's
/// abort address, as the kernel would have on a return to user space. To be called before
/// anything is injected: an injected call clears the registration's rseq_cs, and the section
/// would then commit although it was interrupted.
Status abort_rseq_section(const TracedThread& thread, const ForeignMemory& memory,
                          const RseqRegistration& registration);

}  // namespace drover
