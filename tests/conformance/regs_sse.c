/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: one of the 16 xmm registers is lost in
   user code or across a blocking call */
#include "conform.h"

enum { kRegisters = 16, kLoops = 100000 };

// Loads the registers, adds the keys to them, loop after loop, sleeps in the system call given,
// and stores them.
void stir(uint64_t state[kRegisters][2], const uint64_t keys[kRegisters][2], uint64_t loops,
          const struct timespec* sleep_for);
__asm__(
    ".text\n.globl stir\n.type stir,@function\nstir:\n"
    "push %rbx\nmov %rdi,%rbx\nmov %rcx,%r8\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nmovdqu 16*\\i(%rdi),%xmm\\i\n.endr\n"
    "1:\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "paddq 16*\\i(%rsi),%xmm\\i\npshufd $0x39,%xmm\\i,%xmm\\i\n.endr\n"
    "dec %rdx\njnz 1b\n"
    "mov $230,%eax\nmov $1,%edi\nxor %esi,%esi\nmov %r8,%rdx\nxor %r10d,%r10d\nsyscall\n"
    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nmovdqu %xmm\\i,16*\\i(%rbx)\n.endr\n"
    "pop %rbx\nret\n.size stir,.-stir\n");

static void model(uint64_t state[kRegisters][2], uint64_t keys[kRegisters][2]) {
  for (int i = 0; i < kRegisters; ++i)
    for (int n = 0; n < kLoops; ++n) {
      uint64_t low = state[i][0] + keys[i][0], high = state[i][1] + keys[i][1];
      state[i][0] = low >> 32 | high << 32;
      state[i][1] = high >> 32 | low << 32;
    }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_sse");
  uint64_t seed = 4;
  static uint64_t state[kRegisters][2], expected[kRegisters][2];
  static _Alignas(16) uint64_t keys[kRegisters][2];
  for (int i = 0; i < kRegisters; ++i)
    for (int j = 0; j < 2; ++j) {
      state[i][j] = expected[i][j] = next_random(&seed);
      keys[i][j] = next_random(&seed);
    }
  struct timespec sleep_for = spec_of(8 * kMs);
  conform_ready();
  while (conform_next()) {
    stir(state, keys, kLoops, &sleep_for);
    model(expected, keys);
    CHECK(seen(memcmp(state, expected, sizeof state)) == 0, "xmm registers");
    printf("xmm0 %016llx\n", (unsigned long long)state[0][0]);
  }
  return conform_end();
}
