#include "common/process/scratch.h"

#include <sys/syscall.h>

#include <array>
#include <cstring>

namespace drover {
namespace {

// struct sigcontext_64, _fpx_sw_bytes and ucontext as rt_sigreturn reads them
// (arch/x86/include/uapi/asm/sigcontext.h, which collides with libc's own).
struct KernelSigcontext {
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  std::uint64_t di, si, bp, bx, dx, ax, cx, sp, ip, flags;
  std::uint16_t cs, gs, fs, ss;
  std::uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
struct SoftwareReserved {
  std::uint32_t magic1;
  std::uint32_t extended_size;
  std::uint64_t features;
  std::uint32_t xstate_size;
  std::uint32_t padding[7];
};
constexpr std::uint32_t kXstateMagic1 = 0x46505853;
constexpr std::uint32_t kXstateMagic2 = 0x46505845;
struct KernelUcontext {
  std::uint64_t flags;
  std::uint64_t link;
  std::uint64_t stack_pointer;
  std::uint32_t stack_flags;
  std::uint32_t pad;
  std::uint64_t stack_size;
  KernelSigcontext machine;
  std::uint64_t mask;
};
constexpr std::uint64_t kUcFpXstate = 1;
constexpr std::uint64_t kUcSigcontextSs = 2;
constexpr std::uint64_t kUcStrictRestoreSs = 4;
// Neither SS_ONSTACK nor SS_DISABLE: restore_altstack() refuses it and leaves what is set.
constexpr std::uint32_t kKeepAltStack = 0x1234;

constexpr std::size_t kSoftwareReservedOffset = 464;  // of the xsave area
constexpr std::size_t kXstateOffsetInFrame = 1024;

/// The registers with which the call that the thread was stopped in starts anew.
Registers restarted(Registers r) {
  const auto result = static_cast<std::int64_t>(r.rax);
  if (static_cast<std::int64_t>(r.orig_rax) < 0 || !is_restart(result)) return r;
  r.rax = result == kErestartRestartblock ? SYS_restart_syscall : r.orig_rax;
  r.rip -= 2;
  return r;
}

}  // namespace

Status Scratch::write_code(const ForeignMemory& memory) const {
  std::array<unsigned char, 80> code;
  code.fill(0x90);
  const auto put = [&](std::size_t at, std::initializer_list<unsigned char> bytes) {
    std::copy(bytes.begin(), bytes.end(), code.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, {0x0f, 0x05, 0xcc});                            // syscall; int3
  put(16, {0x0f, 0x05, 0xb8, 15, 0, 0, 0, 0x0f, 0x05});  // syscall; rt_sigreturn
  put(64, {0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});  // pause; again
  return memory.write(start_, std::as_bytes(std::span(code)));
}

Status Scratch::write_return_frame(const ForeignMemory& memory, const Registers& registers,
                                   ByteView extended_state, SignalMask mask) const {
  const Registers r = restarted(registers);
  const ForeignAddress xstate_at = frame() + kXstateOffsetInFrame;

  KernelUcontext uc{};
  uc.flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  uc.stack_flags = kKeepAltStack;
  KernelSigcontext& m = uc.machine;
  m.r8 = r.r8, m.r9 = r.r9, m.r10 = r.r10, m.r11 = r.r11;
  m.r12 = r.r12, m.r13 = r.r13, m.r14 = r.r14, m.r15 = r.r15;
  m.di = r.rdi, m.si = r.rsi, m.bp = r.rbp, m.bx = r.rbx;
  m.dx = r.rdx, m.ax = r.rax, m.cx = r.rcx, m.sp = r.rsp;
  m.ip = r.rip, m.flags = r.eflags;
  m.cs = static_cast<std::uint16_t>(r.cs), m.ss = static_cast<std::uint16_t>(r.ss);
  m.fpstate = xstate_at.value();
  uc.mask = mask;
  DROVER_CHECK(memory.write_record(frame(), uc));

  Bytes xstate(extended_state.begin(), extended_state.end());
  if (xstate.size() < 576) return refusal("extended state is too short for XSAVE");
  // The first eight software-reserved bytes hold XCR0 in ptrace's layout.
  std::uint64_t features = 0;
  std::memcpy(&features, xstate.data() + kSoftwareReservedOffset, sizeof features);
  SoftwareReserved sw{};
  sw.magic1 = kXstateMagic1;
  sw.extended_size = static_cast<std::uint32_t>(xstate.size() + sizeof kXstateMagic2);
  sw.features = features;
  sw.xstate_size = static_cast<std::uint32_t>(xstate.size());
  std::memcpy(xstate.data() + kSoftwareReservedOffset, &sw, sizeof sw);
  const std::uint32_t magic2 = kXstateMagic2;
  const auto* tail = reinterpret_cast<const std::byte*>(&magic2);
  xstate.insert(xstate.end(), tail, tail + sizeof magic2);
  if (kFrameOffset + kXstateOffsetInFrame + xstate.size() > kDataOffset) {
    return refusal("extended state does not fit the scratch");
  }
  return memory.write(xstate_at, xstate);
}

}  // namespace drover
