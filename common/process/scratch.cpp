#include "common/process/scratch.h"

#include <algorithm>
#include <array>

namespace drover {

Status Scratch::write_code(const ForeignMemory& memory) const {
  std::array<unsigned char, 160> code;
  code.fill(0x90);
  const auto put = [&](std::size_t at, std::initializer_list<unsigned char> bytes) {
    std::copy(bytes.begin(), bytes.end(), code.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, {0x0f, 0x05, 0xcc});                            // syscall; int3
  put(64, {0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});  // pause; again
  put(96, {
              // clang-format off
              0x48, 0x8b, 0x03,                    // next: mov rax,[rbx]
              0x48, 0x85, 0xc0,                    // test rax,rax
              0x78, 0x2a,                          // js end
              0x48, 0x8b, 0x7b, 0x08,              // mov rdi,[rbx+8]
              0x48, 0x8b, 0x73, 0x10,              // mov rsi,[rbx+16]
              0x48, 0x8b, 0x53, 0x18,              // mov rdx,[rbx+24]
              0x4c, 0x8b, 0x53, 0x20,              // mov r10,[rbx+32]
              0x4c, 0x8b, 0x43, 0x28,              // mov r8,[rbx+40]
              0x4c, 0x8b, 0x4b, 0x30,              // mov r9,[rbx+48]
              0x0f, 0x05,                          // syscall
              0x48, 0x89, 0x43, 0x38,              // mov [rbx+56],rax
              0x48, 0x83, 0xc3, 0x40,              // add rbx,64
              0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff,  // cmp rax,-4095
              0x72, 0xce,                          // jb next
              0xcc,                                // end: int3
                     // clang-format on
          });
  return memory.write(start_, std::as_bytes(std::span(code)));
}

}  // namespace drover
