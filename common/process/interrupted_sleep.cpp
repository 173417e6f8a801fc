#include "common/process/interrupted_sleep.h"

#include <sys/syscall.h>

#include <array>
#include <cstddef>

#include "common/process/continued_call.h"

namespace drover {
namespace {

/// What the code finds behind itself: when the sleep ends, the arguments of the call that is
/// continued, and where the time left goes.
struct Record {
  timespec until;
  std::uint64_t first, second, third;
  std::uint64_t left;
  std::uint64_t fourth;
  std::uint64_t back_to;
};

// Sleeps; after EINTR writes the time left; puts the arguments back, and the address in rcx, as
// a system call does. In brackets: fields of the record.
constexpr std::array<unsigned char, 121> kCode = {
    // clang-format off
    0x0f, 0x05,  // syscall
    0x48, 0x83, 0xf8, 0xfc,  // cmp rax,-EINTR
    0x75, 0x4c,  // jne 0x54
    0x48, 0x8b, 0x35, 0x99, 0x00, 0x00, 0x00,  // mov rsi,[left]
    0x48, 0x85, 0xf6,  // test rsi,rsi
    0x74, 0x39,  // je 0x4d
    0xb8, 0xe4, 0x00, 0x00, 0x00,  // mov eax,clock_gettime
    0x0f, 0x05,  // syscall
    0x48, 0x8b, 0x0d, 0x5e, 0x00, 0x00, 0x00,  // mov rcx,[until.tv_sec]
    0x4c, 0x8b, 0x1d, 0x5f, 0x00, 0x00, 0x00,  // mov r11,[until.tv_nsec]
    0x48, 0x2b, 0x0e,  // sub rcx,[rsi]
    0x4c, 0x2b, 0x5e, 0x08,  // sub r11,[rsi+0x8]
    0x79, 0x0a,  // jns 0x3c
    0x48, 0xff, 0xc9,  // dec rcx
    0x49, 0x81, 0xc3, 0x00, 0xca, 0x9a, 0x3b,  // add r11,1000000000
    0x48, 0x85, 0xc9,  // test rcx,rcx
    0x79, 0x05,  // jns 0x46
    0x31, 0xc9,  // xor ecx,ecx
    0x45, 0x31, 0xdb,  // xor r11d,r11d
    0x48, 0x89, 0x0e,  // mov [rsi],rcx
    0x4c, 0x89, 0x5e, 0x08,  // mov [rsi+0x8],r11
    0x48, 0xc7, 0xc0, 0xfc, 0xff, 0xff, 0xff,  // mov rax,-EINTR
    0x48, 0x8b, 0x3d, 0x35, 0x00, 0x00, 0x00,  // mov rdi,[first]
    0x48, 0x8b, 0x35, 0x36, 0x00, 0x00, 0x00,  // mov rsi,[second]
    0x48, 0x8b, 0x15, 0x37, 0x00, 0x00, 0x00,  // mov rdx,[third]
    0x4c, 0x8b, 0x15, 0x40, 0x00, 0x00, 0x00,  // mov r10,[fourth]
    0x48, 0x8b, 0x0d, 0x41, 0x00, 0x00, 0x00,  // mov rcx,[back_to]
    0xff, 0xe1,  // jmp rcx
    // clang-format on
};
static_assert(ContinuationPage::kRecordOffset == 128 && sizeof(kCode) <= 128);
static_assert(offsetof(Record, until) == 0 && offsetof(Record, first) == 16 &&
              offsetof(Record, second) == 24 && offsetof(Record, third) == 32 &&
              offsetof(Record, left) == 40 && offsetof(Record, fourth) == 48 &&
              offsetof(Record, back_to) == 56);

/// By which clock a sleep that lasts for a time can be made one until a point in time.
std::optional<clockid_t> continuing_clock(std::uint64_t clock) {
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_REALTIME:  // setting it does not change how long a relative sleep lasts
    case CLOCK_TAI:
      return CLOCK_MONOTONIC;
    case CLOCK_BOOTTIME:
      return CLOCK_BOOTTIME;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<Sleep> interrupted_sleep(const Registers& r) {
  if (static_cast<std::int64_t>(r.rax) != kErestartRestartblock) return std::nullopt;
  if (r.orig_rax == SYS_nanosleep) {
    return Sleep{CLOCK_MONOTONIC, ForeignAddress(r.rdi), ForeignAddress(r.rsi)};
  }
  if (r.orig_rax != SYS_clock_nanosleep || (r.rsi & TIMER_ABSTIME) != 0) return std::nullopt;
  const auto clock = continuing_clock(r.rdi);
  if (!clock) return std::nullopt;
  return Sleep{*clock, ForeignAddress(r.rdx), ForeignAddress(r.r10)};
}

Result<Registers> continue_sleep(pid_t tid, const Registers& r, const Sleep& sleep,
                                 std::chrono::nanoseconds until, const ForeignMemory& memory,
                                 Injection& injection) {
  DROVER_TRY(const ContinuationPage page, continuation_page(tid, r, memory, injection));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(until);
  const timespec point{seconds.count(), (until - seconds).count()};
  DROVER_CHECK(memory.write(page.code(), std::as_bytes(std::span(kCode))));
  DROVER_CHECK(memory.write_record(
      page.record(), Record{point, r.rdi, r.rsi, r.rdx, sleep.left.value(), r.r10, r.rip}));
  Registers rest = r;
  rest.rdi = static_cast<std::uint64_t>(sleep.clock);
  rest.rsi = TIMER_ABSTIME;
  rest.rdx = page.record().value();
  rest.r10 = 0;
  return in_continued_call(rest, page, SYS_clock_nanosleep);
}

}  // namespace drover
