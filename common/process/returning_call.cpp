#include "common/process/returning_call.h"

#include <elf.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace drover {
namespace {

/// What the code puts back: all that a system call needs or changes.
struct Record {
  std::uint64_t rax, rdi, rsi, rdx, r10, r8, r9, rcx, r11;
  std::uint64_t back_to;
  SignalMask mask;
};

constexpr std::uint64_t kRecordOffset = 104;
constexpr std::uint64_t kWayBackOffset = 2;

// None of it changes the flags. In brackets: fields of the record.
constexpr std::array<unsigned char, 101> kCode = {
    // clang-format off
    0x0f, 0x05,  // syscall
    0xb8, 0x0e, 0x00, 0x00, 0x00,  // mov eax,rt_sigprocmask
    0xbf, 0x02, 0x00, 0x00, 0x00,  // mov edi,SIG_SETMASK
    0x48, 0x8d, 0x35, 0xa5, 0x00, 0x00, 0x00,  // lea rsi,[mask]
    0xba, 0x00, 0x00, 0x00, 0x00,  // mov edx,0
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00,  // mov r10d,8
    0x0f, 0x05,  // syscall
    0x48, 0x8b, 0x05, 0x41, 0x00, 0x00, 0x00,  // mov rax,[rax]
    0x48, 0x8b, 0x3d, 0x42, 0x00, 0x00, 0x00,  // mov rdi,[rdi]
    0x48, 0x8b, 0x35, 0x43, 0x00, 0x00, 0x00,  // mov rsi,[rsi]
    0x48, 0x8b, 0x15, 0x44, 0x00, 0x00, 0x00,  // mov rdx,[rdx]
    0x4c, 0x8b, 0x15, 0x45, 0x00, 0x00, 0x00,  // mov r10,[r10]
    0x4c, 0x8b, 0x05, 0x46, 0x00, 0x00, 0x00,  // mov r8,[r8]
    0x4c, 0x8b, 0x0d, 0x47, 0x00, 0x00, 0x00,  // mov r9,[r9]
    0x48, 0x8b, 0x0d, 0x48, 0x00, 0x00, 0x00,  // mov rcx,[rcx]
    0x4c, 0x8b, 0x1d, 0x49, 0x00, 0x00, 0x00,  // mov r11,[r11]
    0xff, 0x25, 0x4b, 0x00, 0x00, 0x00,  // jmp [back_to]
    // clang-format on
};
static_assert(sizeof(kCode) <= kRecordOffset && offsetof(Record, rax) == 0 &&
              offsetof(Record, rdi) == 8 && offsetof(Record, rsi) == 16 &&
              offsetof(Record, rdx) == 24 && offsetof(Record, r10) == 32 &&
              offsetof(Record, r8) == 40 && offsetof(Record, r9) == 48 &&
              offsetof(Record, rcx) == 56 && offsetof(Record, r11) == 64 &&
              offsetof(Record, back_to) == 72 && offsetof(Record, mask) == 80);
constexpr std::uint64_t kSize = kRecordOffset + sizeof(Record);

/// The registers with which the call that the thread was stopped in starts anew.
Registers restarted(Registers r) {
  const auto result = static_cast<std::int64_t>(r.rax);
  if (static_cast<std::int64_t>(r.orig_rax) < 0 || !is_restart(result)) return r;
  r.rax = result == kErestartRestartblock ? SYS_restart_syscall : r.orig_rax;
  r.rip -= 2;
  return r;
}

Result<ForeignAddress> find_room(const ForeignMemory& memory, ForeignRange vdso) {
  constexpr std::uint64_t kAlignment = 16;
  Bytes image(vdso.size());
  DROVER_CHECK(memory.read(vdso.start, image));
  DROVER_TRY(const std::uint64_t loaded, loaded_size(image));
  const std::uint64_t offset = (loaded + kAlignment - 1) / kAlignment * kAlignment;
  if (offset + kSize > vdso.size()) return refusal("the process's vDSO has no room for our code");
  return vdso.start + offset;
}

}  // namespace

Result<std::uint64_t> loaded_size(ByteView vdso) {
  Elf64_Ehdr head{};
  if (vdso.size() < sizeof head) return refusal("the process's vDSO is too short");
  std::memcpy(&head, vdso.data(), sizeof head);
  std::uint64_t loaded = 0;
  for (std::uint64_t i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr part{};
    const std::uint64_t at = head.e_phoff + i * sizeof part;
    if (at > vdso.size() - sizeof part) return refusal("the process's vDSO is no ELF file");
    std::memcpy(&part, vdso.data() + at, sizeof part);
    if (part.p_type == PT_LOAD) loaded = std::max(loaded, part.p_offset + part.p_filesz);
  }
  if (loaded == 0 || loaded > vdso.size()) return refusal("the process's vDSO is no ELF file");
  return loaded;
}

Result<ReturningCall> ReturningCall::put(const ForeignMemory& memory, ForeignRange vdso,
                                         const Registers& registers, SignalMask mask) {
  DROVER_TRY(const ForeignAddress at, find_room(memory, vdso));
  Bytes before(kSize);
  DROVER_CHECK(memory.read(at, before));
  const Registers r = restarted(registers);
  const Record record{r.rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9, r.rcx, r.r11, r.rip, mask};
  Bytes code(kSize);
  std::memcpy(code.data(), kCode.data(), sizeof kCode);
  std::memcpy(code.data() + kRecordOffset, &record, sizeof record);
  DROVER_CHECK(memory.write(at, code));
  return ReturningCall(memory, at, std::move(before));
}

ForeignAddress ReturningCall::way_back() const { return at_ + kWayBackOffset; }

Status ReturningCall::remove() const { return memory_->write(at_, before_); }

}  // namespace drover
