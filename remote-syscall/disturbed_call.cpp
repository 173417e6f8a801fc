#include "remote-syscall/disturbed_call.h"

#include "common/process/continued_call.h"
#include "common/process/interrupted_sleep.h"
#include "common/process/short_transfer.h"
#include "common/process/timed_wait.h"
#include "remote-syscall/syscall_table.h"

namespace drover {
namespace {

using std::chrono::nanoseconds;

/// How it goes on; nothing if the call needs no help.
Result<std::optional<Registers>> rest_of_call(const Body& body, pid_t tid, const Registers& r,
                                              nanoseconds so_far, Injection& injection) {
  const auto now = [&](clockid_t clock) {
    return read_clock(injection, body.memory, body.scratch, clock);
  };
  if (const auto sleep = interrupted_sleep(r)) {
    // What home has told to be left may stand where the length stood.
    const bool told = !sleep->left.is_null();
    const auto time = body.memory.read_record<timespec>(told ? sleep->left : sleep->length);
    if (!time) return std::optional<Registers>();
    const nanoseconds left = told ? bounded(*time) : bounded(*time) - so_far;
    DROVER_TRY(const std::int64_t began_again, now(sleep->clock));
    DROVER_TRY(const Registers rest, continue_sleep(tid, r, *sleep, nanoseconds(began_again) + left,
                                                    body.memory, injection));
    return std::optional(rest);
  }
  if (is_timed_wait(r)) {
    DROVER_TRY(const std::int64_t began_again, now(CLOCK_MONOTONIC));
    DROVER_TRY(const Registers rest, continue_timed_wait(tid, r, so_far, nanoseconds(began_again),
                                                         body.memory, injection));
    return std::optional(rest);
  }
  DROVER_TRY(const bool cut_short, is_cut_short(r, body.memory));
  if (!cut_short) return std::optional<Registers>();
  DROVER_TRY(const Registers rest, continue_short_transfer(tid, r, body.memory, injection));
  return std::optional(rest);
}

}  // namespace

bool is_in_forwarded_call(const Registers& r, std::int32_t pid) {
  const CallArguments arguments{r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
  return is_in_call(r) &&
         classify_call(static_cast<int>(r.orig_rax), arguments, pid) != CallClass::kLocal;
}

Status continue_disturbed_call(const Body& body, const BodyThread& thread, nanoseconds so_far) {
  const TracedThread& traced = thread.thread;
  DROVER_TRY(const Registers r, traced.registers());
  DROVER_TRY(Injection injection, Injection::trapping(traced, body.scratch));
  DROVER_TRY(const auto rest, rest_of_call(body, thread.home_tid, r, so_far, injection));
  DROVER_CHECK(injection.end());
  return rest ? traced.set_registers(*rest) : Status{};
}

}  // namespace drover
