/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: the upper half of a ymm register is
   lost in user code or across a blocking call */
#include "conform.h"

enum { kRegisters = 16, kLanes = 4, kLoops = 50000 };

typedef uint64_t Registers[kRegisters][kLanes];

// As in regs_sse.c, on whole ymm registers.
void stir(Registers state, Registers keys, uint64_t loops, const struct timespec* sleep_for);
__asm__(
    ".text\n.globl stir\n.type stir,@function\nstir:\n"
    "push %rbx\nmov %rdi,%rbx\nmov %rcx,%r8\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu 32*\\i(%rdi),%ymm\\i\n.endr\n"
    "1:\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "vpaddq 32*\\i(%rsi),%ymm\\i,%ymm\\i\nvpermq $0x39,%ymm\\i,%ymm\\i\n.endr\n"
    "dec %rdx\njnz 1b\n"
    "mov $230,%eax\nmov $1,%edi\nxor %esi,%esi\nmov %r8,%rdx\nxor %r10d,%r10d\nsyscall\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu %ymm\\i,32*\\i(%rbx)\n.endr\n"
    "vzeroupper\npop %rbx\nret\n.size stir,.-stir\n");

// Also what a CPU without AVX2 computes, so that the output is the same everywhere.
static void model(Registers state, Registers keys) {
  for (int i = 0; i < kRegisters; ++i)
    for (int n = 0; n < kLoops; ++n) {
      uint64_t lowest = state[i][0] + keys[i][0];
      for (int lane = 1; lane < kLanes; ++lane) state[i][lane - 1] = state[i][lane] + keys[i][lane];
      state[i][kLanes - 1] = lowest;
    }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_avx");
  uint64_t seed = 5;
  static Registers state, expected, keys;
  for (int i = 0; i < kRegisters; ++i)
    for (int j = 0; j < kLanes; ++j) {
      state[i][j] = expected[i][j] = next_random(&seed);
      keys[i][j] = next_random(&seed);
    }
  struct timespec sleep_for = spec_of(8 * kMs);
  bool has_avx2 = __builtin_cpu_supports("avx2");
  conform_ready();
  while (conform_next()) {
    if (has_avx2)
      stir(state, keys, kLoops, &sleep_for);
    else
      model(state, keys);
    model(expected, keys);
    CHECK(seen(memcmp(state, expected, sizeof state)) == 0, "ymm registers");
    printf("ymm0 %016llx\n", (unsigned long long)state[0][kLanes - 1]);
  }
  return conform_end();
}
