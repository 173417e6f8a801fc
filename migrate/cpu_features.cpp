#include "migrate/cpu_features.h"

#include <cpuid.h>
#include <fmt/format.h>
#include <sys/auxv.h>

#include <array>
#include <initializer_list>

namespace drover {
namespace {

struct Feature {
  std::uint32_t bit;
  const char* name;  // as in /proc/cpuinfo where it has one
};
struct FeatureRegister {
  std::uint32_t leaf;
  std::uint32_t subleaf;
  std::uint32_t reg;
  std::vector<Feature> features;
};

constexpr std::uint32_t kEax = 0;
constexpr std::uint32_t kEbx = 1;
constexpr std::uint32_t kEcx = 2;
constexpr std::uint32_t kEdx = 3;

// What an instruction, or its absence, shows to user space. What only a kernel can use is left
// out: such a bit may differ between two machines and harm no program.
// clang-format off
const std::vector<FeatureRegister>& feature_table() {
  static const std::vector<FeatureRegister> table = {
    {0x1, 0, kEcx, {{0, "pni"}, {1, "pclmulqdq"}, {9, "ssse3"}, {12, "fma"}, {13, "cx16"},
                    {19, "sse4_1"}, {20, "sse4_2"}, {22, "movbe"}, {23, "popcnt"}, {25, "aes"},
                    {26, "xsave"}, {27, "osxsave"}, {28, "avx"}, {29, "f16c"}, {30, "rdrand"}}},
    {0x1, 0, kEdx, {{0, "fpu"}, {4, "tsc"}, {8, "cx8"}, {15, "cmov"}, {19, "clflush"},
                    {23, "mmx"}, {24, "fxsr"}, {25, "sse"}, {26, "sse2"}}},
    {0x7, 0, kEbx, {{0, "fsgsbase"}, {3, "bmi1"}, {4, "hle"}, {5, "avx2"}, {8, "bmi2"},
                    {9, "erms"}, {11, "rtm"}, {14, "mpx"}, {16, "avx512f"}, {17, "avx512dq"},
                    {18, "rdseed"}, {19, "adx"}, {21, "avx512ifma"}, {23, "clflushopt"},
                    {24, "clwb"}, {26, "avx512pf"}, {27, "avx512er"}, {28, "avx512cd"},
                    {29, "sha_ni"}, {30, "avx512bw"}, {31, "avx512vl"}}},
    {0x7, 0, kEcx, {{0, "prefetchwt1"}, {1, "avx512vbmi"}, {4, "ospke"}, {5, "waitpkg"},
                    {6, "avx512_vbmi2"}, {8, "gfni"}, {9, "vaes"}, {10, "vpclmulqdq"},
                    {11, "avx512_vnni"}, {12, "avx512_bitalg"}, {14, "avx512_vpopcntdq"},
                    {22, "rdpid"}, {25, "cldemote"}, {27, "movdiri"}, {28, "movdir64b"},
                    {29, "enqcmd"}}},
    {0x7, 0, kEdx, {{2, "avx512_4vnniw"}, {3, "avx512_4fmaps"}, {4, "fsrm"}, {5, "uintr"},
                    {8, "avx512_vp2intersect"}, {14, "serialize"}, {16, "tsxldtrk"},
                    {22, "amx_bf16"}, {23, "avx512_fp16"}, {24, "amx_tile"}, {25, "amx_int8"}}},
    {0x7, 1, kEax, {{0, "sha512"}, {1, "sm3"}, {2, "sm4"}, {3, "rao_int"}, {4, "avx_vnni"},
                    {5, "avx512_bf16"}, {7, "cmpccxadd"}, {10, "fzrm"}, {11, "fsrs"},
                    {12, "fsrc"}, {21, "amx_fp16"}, {23, "avx_ifma"}, {31, "movrs"}}},
    {0x7, 1, kEdx, {{4, "avx_vnni_int8"}, {5, "avx_ne_convert"}, {8, "amx_complex"},
                    {10, "avx_vnni_int16"}, {14, "prefetchi"}, {15, "user_msr"}, {19, "avx10"},
                    {21, "apx"}}},
    {0xD, 1, kEax, {{0, "xsaveopt"}, {1, "xsavec"}, {2, "xgetbv1"}, {4, "xfd"}}},
    {0x8000'0001, 0, kEcx, {{0, "lahf_lm"}, {5, "abm"}, {6, "sse4a"}, {7, "misalignsse"},
                            {8, "3dnowprefetch"}, {11, "xop"}, {16, "fma4"}, {21, "tbm"},
                            {29, "mwaitx"}}},
    {0x8000'0001, 0, kEdx, {{22, "mmxext"}, {27, "rdtscp"}, {30, "3dnowext"}, {31, "3dnow"}}},
    {0x8000'0008, 0, kEbx, {{0, "clzero"}, {4, "rdpru"}, {9, "wbnoinvd"}}},
    {kXcr0Leaf, 0, kEax, {{0, "x87 state"}, {1, "sse state"}, {2, "avx state"},
                          {5, "avx512 mask state"}, {6, "avx512 state"},
                          {7, "avx512 high state"}, {9, "protection key state"},
                          {17, "amx configuration state"}, {18, "amx tile state"},
                          {19, "apx state"}}},
    {kHwcap2Leaf, 0, kEax, {{0, "ring3mwait"}, {1, "fsgsbase enabled"}}},
  };
  return table;
}
// clang-format on

std::uint32_t cpuid_register(std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t reg) {
  std::array<std::uint32_t, 4> r{};
  if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) return 0;
  return r[reg];
}

/// The state components that the kernel has switched on: xgetbv(0), if the CPU has it.
std::uint32_t xcr0() {
  constexpr std::uint32_t kOsxsave = 1U << 27;
  if (!(cpuid_register(0x1, 0, kEcx) & kOsxsave)) return 0;
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

std::uint32_t read_word(const FeatureRegister& source) {
  if (source.leaf == kXcr0Leaf) return xcr0();
  if (source.leaf == kHwcap2Leaf) return static_cast<std::uint32_t>(::getauxval(AT_HWCAP2));
  return cpuid_register(source.leaf, source.subleaf, source.reg);
}

std::string name_of(const CpuWord& word, std::uint32_t bit) {
  for (const FeatureRegister& source : feature_table())
    if (source.leaf == word.leaf && source.subleaf == word.subleaf && source.reg == word.reg)
      for (const Feature& feature : source.features)
        if (feature.bit == bit) return feature.name;
  return fmt::format("cpuid {:#x}.{:#x} register {} bit {}", word.leaf, word.subleaf, word.reg,
                     bit);
}

}  // namespace

std::vector<CpuWord> own_cpu_features() {
  std::vector<CpuWord> words;
  for (const FeatureRegister& source : feature_table()) {
    std::uint32_t user_bits = 0;
    for (const Feature& feature : source.features) user_bits |= 1U << feature.bit;
    const std::uint32_t bits = read_word(source) & user_bits;
    if (bits != 0) words.push_back({source.leaf, source.subleaf, source.reg, bits});
  }
  return words;
}

std::vector<std::string> missing_cpu_features(const std::vector<CpuWord>& wanted,
                                              const std::vector<CpuWord>& offered) {
  std::vector<std::string> missing;
  for (const CpuWord& word : wanted) {
    std::uint32_t lacking = word.bits;
    for (const CpuWord& have : offered)
      if (have.leaf == word.leaf && have.subleaf == word.subleaf && have.reg == word.reg)
        lacking &= ~have.bits;
    for (std::uint32_t bit = 0; bit < 32; ++bit)
      if (lacking >> bit & 1) missing.push_back(name_of(word, bit));
  }
  return missing;
}

}  // namespace drover
