// What a program may have found out about the CPU and taken for granted: it must all be there
// wherever the program's body goes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace drover {

/// The user-visible feature bits of one CPUID register, or of one of two words beside CPUID:
/// XCR0 (leaf kXcr0Leaf) and AT_HWCAP2 (leaf kHwcap2Leaf).
struct CpuWord {
  std::uint32_t leaf = 0;
  std::uint32_t subleaf = 0;
  std::uint32_t reg = 0;  ///< 0 to 3: eax, ebx, ecx, edx
  std::uint32_t bits = 0;

  bool operator==(const CpuWord&) const = default;
};

inline constexpr std::uint32_t kXcr0Leaf = 0xffff'0001;
inline constexpr std::uint32_t kHwcap2Leaf = 0xffff'0002;

/// The feature words of this machine. Bits that only a kernel can use, and what differs from
/// CPU to CPU of one machine (APIC ids), are left out. Intel SDM vol. 2A "CPUID", AMD APM vol. 3.
std::vector<CpuWord> own_cpu_features();

/// The names of what `wanted` has and `offered` lacks; for bits that are not known here,
/// where they are. Empty: the body may go.
std::vector<std::string> missing_cpu_features(const std::vector<CpuWord>& wanted,
                                              const std::vector<CpuWord>& offered);

}  // namespace drover
