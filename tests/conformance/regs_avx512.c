/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a zmm register, the sixteen high ones
   among them, or a mask register is lost in user code or across a blocking call */
#include "conform.h"

enum { kRegisters = 32, kLanes = 8, kLoops = 20000, kMasks = 7 };

typedef uint64_t Registers[kRegisters][kLanes];

#define ALL                                                                             \
  "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30," \
  "31"

// Loads k1 to k7 and all zmm registers, adds the keys under mask k1 to k7 in turn, loop after loop,
// sleeps in the system call given, and stores them all.
void stir(Registers state, Registers keys, uint64_t loops, const struct timespec* sleep_for,
          uint16_t masks[kMasks]);
__asm__(
    ".text\n.globl stir\n.type stir,@function\nstir:\n"
    "push %rbx\nmov %rdi,%rbx\npush %r12\nmov %r8,%r12\nmov %rcx,%r8\n"
    ".irp k,1,2,3,4,5,6,7\nkmovw 2*\\k-2(%r12),%k\\k\n.endr\n"
    ".irp i," ALL
    "\nvmovdqu64 64*\\i(%rdi),%zmm\\i\n.endr\n"
    "1:\n"
    ".irp i," ALL
    "\nvpaddq 64*\\i(%rsi),%zmm\\i,%zmm\\i{%k1}\n"
    "valignq $1,%zmm\\i,%zmm\\i,%zmm\\i\n.endr\n"
    "dec %rdx\njnz 1b\n"
    "mov $230,%eax\nmov $1,%edi\nxor %esi,%esi\nmov %r8,%rdx\nxor %r10d,%r10d\nsyscall\n"
    ".irp i," ALL
    "\nvmovdqu64 %zmm\\i,64*\\i(%rbx)\n.endr\n"
    ".irp k,1,2,3,4,5,6,7\nkmovw %k\\k,2*\\k-2(%r12)\n.endr\n"
    "vzeroupper\npop %r12\npop %rbx\nret\n.size stir,.-stir\n");

// Also what a CPU without AVX-512 computes, so that the output is the same everywhere.
static void model(Registers state, Registers keys, uint16_t mask) {
  for (int i = 0; i < kRegisters; ++i)
    for (int n = 0; n < kLoops; ++n) {
      uint64_t sum[kLanes];
      for (int lane = 0; lane < kLanes; ++lane)
        sum[lane] = state[i][lane] + (mask >> lane & 1 ? keys[i][lane] : 0);
      for (int lane = 0; lane < kLanes; ++lane) state[i][lane] = sum[(lane + 1) % kLanes];
    }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_avx512");
  uint64_t seed = 6;
  static Registers state, expected, keys;
  for (int i = 0; i < kRegisters; ++i)
    for (int j = 0; j < kLanes; ++j) {
      state[i][j] = expected[i][j] = next_random(&seed);
      keys[i][j] = next_random(&seed);
    }
  struct timespec sleep_for = spec_of(8 * kMs);
  bool has_avx512 = __builtin_cpu_supports("avx512f");
  conform_ready();
  while (conform_next()) {
    uint16_t masks[kMasks], after[kMasks];
    for (int i = 0; i < kMasks; ++i) masks[i] = after[i] = (uint16_t)next_random(&seed);
    if (has_avx512)
      stir(state, keys, kLoops, &sleep_for, after);
    else
      model(state, keys, masks[0]);
    model(expected, keys, masks[0]);
    CHECK(seen(memcmp(state, expected, sizeof state)) == 0, "zmm registers");
    CHECK(memcmp(masks, after, sizeof masks) == 0, "mask registers");
    printf("zmm0 %016llx\n", (unsigned long long)state[0][kLanes - 1]);
  }
  return conform_end();
}
