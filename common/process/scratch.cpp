#include "common/process/scratch.h"

#include <algorithm>
#include <array>

namespace drover {

Status Scratch::write_code(const ForeignMemory& memory) const {
  std::array<unsigned char, 80> code;
  code.fill(0x90);
  const auto put = [&](std::size_t at, std::initializer_list<unsigned char> bytes) {
    std::copy(bytes.begin(), bytes.end(), code.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, {0x0f, 0x05, 0xcc});                            // syscall; int3
  put(64, {0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});  // pause; again
  return memory.write(start_, std::as_bytes(std::span(code)));
}

}  // namespace drover
