/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a general register, the carry or the
   direction flag is lost or changed by a move */
#include "conform.h"

enum { kRegisters = 15, kLoops = 100000 };

// Keeps 15 values in all registers but rsp and stirs them with one carry chain that runs on from
// loop to loop (dec leaves the carry alone). Returns the flags.
uint64_t stir(uint64_t state[kRegisters], uint64_t loops);
__asm__(
    ".text\n.globl stir\n.type stir,@function\nstir:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "push %rdi\npush %rsi\n"
    "mov 0(%rdi),%rax\nmov 8(%rdi),%rbx\nmov 16(%rdi),%rcx\nmov 24(%rdi),%rdx\n"
    "mov 32(%rdi),%rsi\nmov 40(%rdi),%rbp\nmov 48(%rdi),%r8\nmov 56(%rdi),%r9\n"
    "mov 64(%rdi),%r10\nmov 72(%rdi),%r11\nmov 80(%rdi),%r12\nmov 88(%rdi),%r13\n"
    "mov 96(%rdi),%r14\nmov 104(%rdi),%r15\nmov 112(%rdi),%rdi\n"
    "std\nclc\n"
    "1:\n"
    "adc %rbx,%rax\nadc %rcx,%rbx\nadc %rdx,%rcx\nadc %rsi,%rdx\nadc %rbp,%rsi\n"
    "adc %r8,%rbp\nadc %r9,%r8\nadc %r10,%r9\nadc %r11,%r10\nadc %r12,%r11\n"
    "adc %r13,%r12\nadc %r14,%r13\nadc %r15,%r14\nadc %rdi,%r15\nadc %rax,%rdi\n"
    "decq (%rsp)\n"
    "jnz 1b\n"
    "pushfq\n"
    "xchg %rdi,16(%rsp)\n"
    "mov %rax,0(%rdi)\nmov %rbx,8(%rdi)\nmov %rcx,16(%rdi)\nmov %rdx,24(%rdi)\n"
    "mov %rsi,32(%rdi)\nmov %rbp,40(%rdi)\nmov %r8,48(%rdi)\nmov %r9,56(%rdi)\n"
    "mov %r10,64(%rdi)\nmov %r11,72(%rdi)\nmov %r12,80(%rdi)\nmov %r13,88(%rdi)\n"
    "mov %r14,96(%rdi)\nmov %r15,104(%rdi)\n"
    "mov 16(%rsp),%rax\nmov %rax,112(%rdi)\n"
    "pop %rax\ncld\n"
    "pop %rsi\npop %rdi\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\n"
    "ret\n.size stir,.-stir\n");

static unsigned model(uint64_t state[kRegisters], uint64_t loops) {
  unsigned carry = 0;
  for (uint64_t n = 0; n < loops; ++n)
    for (int i = 0; i < kRegisters; ++i) {
      unsigned __int128 sum = (unsigned __int128)state[i] + state[(i + 1) % kRegisters] + carry;
      state[i] = (uint64_t)sum;
      carry = (unsigned)(sum >> 64);
    }
  return carry;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_general");
  uint64_t seed = 1, state[kRegisters], expected[kRegisters];
  for (int i = 0; i < kRegisters; ++i) state[i] = expected[i] = next_random(&seed);
  conform_ready();
  while (conform_next()) {
    for (int part = 0; part < 5; ++part) {
      uint64_t flags = stir(state, kLoops);
      unsigned carry = model(expected, kLoops);
      for (int i = 0; i < kRegisters; ++i)
        CHECK(seen((long long)state[i]) == (long long)expected[i], "register %d", i);
      CHECK((flags & 1) == carry, "carry flag");
      CHECK(flags & 0x400, "direction flag");
    }
    printf("sum %016llx\n", (unsigned long long)state[0]);
  }
  return conform_end();
}
