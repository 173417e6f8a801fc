/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: the x87 register stack, its order or
   its 64-bit mantissas are lost */
#include "conform.h"

enum { kRegisters = 8, kLoops = 40000 };

// Fills the register stack, multiplies each register and adds to it, loop after loop (fincstp turns
// the stack, so that its top moves too), and stores it.
void turn(long double values[kRegisters], const double factor_and_term[2], uint64_t loops);
__asm__(
    ".text\n.globl turn\n.type turn,@function\nturn:\n"
    "fninit\n"
    "fldt 112(%rdi)\nfldt 96(%rdi)\nfldt 80(%rdi)\nfldt 64(%rdi)\n"
    "fldt 48(%rdi)\nfldt 32(%rdi)\nfldt 16(%rdi)\nfldt 0(%rdi)\n"
    "1:\n"
    ".rept 8\nfmull (%rsi)\nfaddl 8(%rsi)\nfincstp\n.endr\n"
    "dec %rdx\njnz 1b\n"
    "fstpt 0(%rdi)\nfstpt 16(%rdi)\nfstpt 32(%rdi)\nfstpt 48(%rdi)\n"
    "fstpt 64(%rdi)\nfstpt 80(%rdi)\nfstpt 96(%rdi)\nfstpt 112(%rdi)\n"
    "ret\n.size turn,.-turn\n");

int main(int argc, char** argv) {
  conform_begin(argc, argv, "regs_x87");
  long double values[kRegisters], expected[kRegisters];
  memset(values, 0, sizeof values);
  for (int i = 0; i < kRegisters; ++i) values[i] = 1.0L / (i + 3);
  memcpy(expected, values, sizeof values);
  const double change[2] = {0.99999, 0.0001};
  conform_ready();
  while (conform_next()) {
    turn(values, change, kLoops);
    for (int i = 0; i < kRegisters; ++i)
      for (int n = 0; n < kLoops; ++n) expected[i] = expected[i] * change[0] + change[1];
    for (int i = 0; i < kRegisters; ++i)
      CHECK(seen(memcmp(&values[i], &expected[i], 10)) == 0, "st(%d)", i);
    printf("st0 %.18Lf\n", values[0]);
  }
  return conform_end();
}
