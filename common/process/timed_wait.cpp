#include "common/process/timed_wait.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <ctime>

#include "common/process/continued_call.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr int kEpollPwait2 = 441;  // Linux 5.11

/// What the code finds behind itself: the arguments of the call, as the program made it. And when
/// the wait ends, by CLOCK_MONOTONIC.
struct Record {
  std::uint64_t first, second, third, fourth, fifth;
  std::uint64_t back_to;
  std::int64_t until_ns;
};

// Makes the call, and puts the arguments back, and the address in rcx, as a system call does.
constexpr std::array<unsigned char, 46> kCode = {
    0x0f, 0x05,                                // syscall
    0x48, 0x8b, 0x3d, 0x77, 0x00, 0x00, 0x00,  // mov rdi, [first]
    0x48, 0x8b, 0x35, 0x78, 0x00, 0x00, 0x00,  // mov rsi, [second]
    0x48, 0x8b, 0x15, 0x79, 0x00, 0x00, 0x00,  // mov rdx, [third]
    0x4c, 0x8b, 0x15, 0x7a, 0x00, 0x00, 0x00,  // mov r10, [fourth]
    0x4c, 0x8b, 0x05, 0x7b, 0x00, 0x00, 0x00,  // mov r8, [fifth]
    0x48, 0x8b, 0x0d, 0x7c, 0x00, 0x00, 0x00,  // mov rcx, [back_to]
    0xff, 0xe1,                                // jmp rcx
};
static_assert(ContinuationPage::kRecordOffset == 128 && sizeof(kCode) <= 128);
static_assert(offsetof(Record, first) == 0 && offsetof(Record, second) == 8 &&
              offsetof(Record, third) == 16 && offsetof(Record, fourth) == 24 &&
              offsetof(Record, fifth) == 32 && offsetof(Record, back_to) == 40);

/// Where a call has its limit of time: milliseconds, or the address of a struct timespec.
struct Limit {
  std::uint64_t number;
  decltype(&Registers::rdx) argument;
  bool is_timespec;
};
constexpr Limit kLimits[] = {
    {SYS_poll, &Registers::rdx, false},           {SYS_epoll_wait, &Registers::r10, false},
    {SYS_epoll_pwait, &Registers::r10, false},    {kEpollPwait2, &Registers::r10, true},
    {SYS_rt_sigtimedwait, &Registers::rdx, true}, {SYS_semtimedop, &Registers::r10, true},
};

const Limit* limit_of(const Registers& r) {
  const auto found =
      std::ranges::find(kLimits, static_cast<std::uint64_t>(r.orig_rax), &Limit::number);
  return found == std::end(kLimits) ? nullptr : found;
}

Result<nanoseconds> length_of(const Registers& r, const Limit& limit, const ForeignMemory& memory) {
  if (!limit.is_timespec) {
    return nanoseconds(milliseconds(static_cast<std::int32_t>(r.*limit.argument)));
  }
  DROVER_TRY(const auto given, memory.read_record<timespec>(ForeignAddress(r.*limit.argument)));
  return bounded(given);
}

}  // namespace

bool is_timed_wait(const Registers& r) {
  if (!is_restart(static_cast<std::int64_t>(r.rax))) return false;
  const Limit* limit = limit_of(r);
  if (!limit) return false;
  const auto value = static_cast<std::uint64_t>(r.*limit->argument);
  return limit->is_timespec ? value != 0 : static_cast<std::int32_t>(value) > 0;
}

Result<Registers> continue_timed_wait(pid_t tid, const Registers& r, nanoseconds so_far,
                                      nanoseconds now, const ForeignMemory& memory,
                                      Injection& injection) {
  const Limit* limit = limit_of(r);
  if (!limit) return refusal("not a wait with a limit of time");
  DROVER_TRY(const ContinuationPage page, continuation_page(tid, r, memory, injection));
  Record record{r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.rip, 0};
  if (page.in_use) {
    DROVER_TRY(record, memory.read_record<Record>(page.record()));
  } else {
    DROVER_TRY(const nanoseconds whole, length_of(r, *limit, memory));
    record.until_ns = (now + whole - so_far).count();
  }
  const nanoseconds left = std::max(nanoseconds(0), nanoseconds(record.until_ns) - now);
  Registers rest = r;
  if (limit->is_timespec) {
    const auto whole = std::chrono::floor<seconds>(left);
    DROVER_CHECK(
        memory.write_record(page.extra(), timespec{whole.count(), (left - whole).count()}));
    rest.*limit->argument = page.extra().value();
  } else {
    rest.*limit->argument =
        static_cast<std::uint64_t>(std::chrono::ceil<milliseconds>(left).count());
  }
  DROVER_CHECK(memory.write(page.code(), std::as_bytes(std::span(kCode))));
  DROVER_CHECK(memory.write_record(page.record(), record));
  return in_continued_call(rest, page, r.orig_rax);
}

}  // namespace drover
