/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a register other than rax, rcx and r11
   changes across a blocking system call, or these three are not what the kernel leaves there */
#include "conform.h"

struct frame {
  uint64_t rax, rdi, rsi, rdx, r10, rbx, rbp, r8, r9, r12, r13, r14, r15, rcx, next;
};

// Executes one system call with every register set from the frame, and stores them back.
void call_with(struct frame* frame);
__asm__(
    ".text\n.globl call_with\n.type call_with,@function\ncall_with:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "push %rdi\n"
    "mov 0(%rdi),%rax\nmov 16(%rdi),%rsi\nmov 24(%rdi),%rdx\nmov 32(%rdi),%r10\n"
    "mov 40(%rdi),%rbx\nmov 48(%rdi),%rbp\nmov 56(%rdi),%r8\nmov 64(%rdi),%r9\n"
    "mov 72(%rdi),%r12\nmov 80(%rdi),%r13\nmov 88(%rdi),%r14\nmov 96(%rdi),%r15\n"
    "mov 8(%rdi),%rdi\n"
    "syscall\n"
    "1:\n"
    "xchg %rdi,(%rsp)\n"
    "mov %rax,0(%rdi)\nmov %rsi,16(%rdi)\nmov %rdx,24(%rdi)\nmov %r10,32(%rdi)\n"
    "mov %rbx,40(%rdi)\nmov %rbp,48(%rdi)\nmov %r8,56(%rdi)\nmov %r9,64(%rdi)\n"
    "mov %r12,72(%rdi)\nmov %r13,80(%rdi)\nmov %r14,88(%rdi)\nmov %r15,96(%rdi)\n"
    "mov %rcx,104(%rdi)\n"
    "lea 1b(%rip),%rcx\nmov %rcx,112(%rdi)\n"
    "pop %rax\nmov %rax,8(%rdi)\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\n"
    "ret\n.size call_with,.-call_with\n");

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_syscall");
  uint64_t seed = 2;
  struct timespec sleep_for = spec_of(12 * kMs);
  conform_ready();
  while (conform_next()) {
    struct frame before = {.rax = SYS_clock_nanosleep,
                           .rdi = CLOCK_MONOTONIC,
                           .rsi = 0,
                           .rdx = (uintptr_t)&sleep_for,
                           .r10 = 0};
    for (uint64_t* r = &before.rbx; r <= &before.r15; ++r) *r = next_random(&seed);
    struct frame after = before;
    call_with(&after);
    CHECK(after.rax == 0, "result %lld", (long long)after.rax);
    CHECK(after.rcx == after.next, "rcx is not the return address");
    after.r12 = (uint64_t)seen((long long)after.r12);
    CHECK(memcmp(&before.rdi, &after.rdi, offsetof(struct frame, rcx) - sizeof(uint64_t)) == 0,
          "a register changed");
  }
  return conform_end();
}
