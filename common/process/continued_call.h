// System calls that our stopping a thread has disturbed, continued by a few instructions in the
// process itself: they finish the call and return to where it was made, so that the program
// sees one call that nobody disturbed. They stand in a mapping that is the program's own from
// then on: it needs no tracer, and moves like the rest of its memory.
#pragma once

#include <chrono>
#include <ctime>

#include "common/process/injection.h"

namespace drover {

/// A page of the mapping, for one call.
struct ContinuationPage {
  static constexpr std::uint64_t kRecordOffset = 128;
  static constexpr std::uint64_t kExtraOffset = 256;
  static constexpr std::uint64_t kExtraSize = kPageSize - kExtraOffset;

  ForeignAddress start;
  bool in_use = false;  ///< the thread is in it: the call was being continued already

  /// Where the code stands, and what it finds behind itself.
  ForeignAddress code() const { return start; }
  ForeignAddress record() const { return start + kRecordOffset; }
  ForeignAddress extra() const { return start + kExtraOffset; }
};

/// The page for a call that a thread with these registers is in. Makes a mapping if there is none
/// with room. A call that is still being continued is one that a signal handler runs in, further
/// down the stack: so a page is used again at once for a call with the same stack pointer, and
/// otherwise only when the thread has had 32 of them. `tid` is what the thread has at home,
/// wherever it is: it tells threads apart.
Result<ContinuationPage> continuation_page(pid_t tid, const Registers& registers,
                                           const ForeignMemory& memory, Injection& injection);

/// The registers of a thread that goes on with the call of that page, which is `number`. It is in
/// that call already: a signal that comes first gives EINTR to the code in the page.
Registers in_continued_call(const Registers& arguments, const ContinuationPage& page,
                            std::uint64_t number);

/// A length of time that the program gave, at most some centuries: sums of it do not overflow.
std::chrono::nanoseconds bounded(const timespec& time);

/// Whether a thread with these registers is in a call that is being continued already.
Result<bool> is_continued(const Registers& registers, const ForeignMemory& memory);

}  // namespace drover
