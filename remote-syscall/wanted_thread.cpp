#include "remote-syscall/wanted_thread.h"

#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <span>

namespace drover {
namespace {

constexpr std::uint64_t kNeeded = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr std::uint64_t kPossible = kNeeded | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                    CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;

/// The arguments of clone3(2); none if the structure is longer than what we know, or cannot be
/// read.
std::optional<clone_args> read_arguments(const ForeignMemory& memory, std::uint64_t at,
                                         std::uint64_t size) {
  clone_args arguments{};
  if (size < CLONE_ARGS_SIZE_VER0 || size > sizeof arguments) return std::nullopt;
  const auto bytes = std::as_writable_bytes(std::span(&arguments, 1)).first(size);
  if (!memory.read(ForeignAddress(at), bytes)) return std::nullopt;
  return arguments;
}

/// The same from those of clone(2).
clone_args arguments_of(const CallArguments& a) {
  clone_args arguments{};
  // The kernel ignores the signal for a thread, and CLONE_DETACHED for all.
  arguments.flags = a[0] & ~std::uint64_t{CSIGNAL | CLONE_DETACHED};
  arguments.stack = a[1];
  arguments.parent_tid = a[2];
  arguments.child_tid = a[3];
  arguments.tls = a[4];
  return arguments;
}

}  // namespace

std::optional<WantedThread> WantedThread::of_call(int number, const CallArguments& a,
                                                  const ForeignMemory& memory) {
  const auto given =
      number == SYS_clone3 ? read_arguments(memory, a[0], a[1]) : std::optional(arguments_of(a));
  if (!given || (given->flags & kNeeded) != kNeeded || (given->flags & ~kPossible) != 0) {
    return std::nullopt;
  }
  if (given->exit_signal != 0 || given->set_tid_size != 0) return std::nullopt;
  if (number == SYS_clone3 && (given->stack == 0) != (given->stack_size == 0)) return std::nullopt;
  WantedThread wanted;
  wanted.stack_pointer = given->stack + given->stack_size;
  wanted.clear_child_tid = (given->flags & CLONE_CHILD_CLEARTID) != 0 ? given->child_tid : 0;
  wanted.arguments.flags = given->flags;
  wanted.arguments.parent_tid = given->parent_tid;
  wanted.arguments.child_tid = given->child_tid;
  wanted.arguments.tls = given->tls;
  return wanted;
}

Registers WantedThread::registers(const Registers& maker, const Registers& born) const {
  Registers r = maker;
  r.rax = 0;
  r.orig_rax = static_cast<std::uint64_t>(-1);
  if (stack_pointer != 0) r.rsp = stack_pointer;
  r.fs_base = born.fs_base;
  return r;
}

}  // namespace drover
