// The init process of a sandbox, and what the guest asks of it. Internal to Sandbox.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>

#include "common/owned_fd.h"
#include "common/result.h"
#include "migrate/sandbox.h"

namespace drover::sandbox_init {

enum Kind : std::int32_t {
  kSetUp = 1,  ///< the id maps are written
  kMakeBlank,  ///< with one descriptor: the blank's end of its socket
  kOpenProcess,
};
struct Request {
  std::int32_t kind = 0;
  std::int32_t pid = 0;  ///< inside
};
/// With pidfd, pagemap and mem, and the process's pid as SCM_CREDENTIALS, which the kernel
/// translates into the guest's pid namespace.
struct Reply {
  std::int32_t error = 0;
  char what[60] = {};
};

/// Init's own uid and gid inside a sandbox for that job id: 0, unless the job has it.
constexpr std::uint32_t id_beside(std::uint32_t job_id) { return job_id == 0 ? 1 : 0; }

/// What init does from its first instruction to its end.
[[noreturn]] void run(const SandboxSpec& spec, OwnedFd control);

/// The blank's side: from its first instruction to the pause. `failure` is a pipe that tells
/// init: closed without a word when all is well, otherwise a Reply.
[[noreturn]] void run_blank(const SandboxSpec& spec, OwnedFd socket, OwnedFd failure);

/// Sets effective and permitted capabilities to `mask` (bit n = capability n), inheritable and
/// ambient ones to none.
Status keep_capabilities(std::uint64_t mask);

/// All signals default and unblocked.
void reset_signals();

/// No core dump, neither into a file nor into a helper program.
Status forbid_core_dumps();

/// clone3(2); 0 in the child.
Result<pid_t> clone_process(std::uint64_t flags, int exit_signal, OwnedFd& pidfd,
                            std::span<const pid_t> set_tid);

}  // namespace drover::sandbox_init
