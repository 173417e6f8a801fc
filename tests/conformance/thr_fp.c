/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a thread gets the vector registers,
   the rounding or the x87 registers of another one, in user code or across a blocking call */
#include <fenv.h>

#include "threads.h"

enum { kThreads = 4, kRegisters = 16, kLoops = 3000000 };

typedef uint64_t Registers[kRegisters][4];

// Holds 16 vector registers for so many turns of a loop, through a sleep and for as many again,
// and says what is in them then.
void hold_ymm(Registers state, uint64_t loops, const struct timespec* sleep_for);
void hold_xmm(Registers state, uint64_t loops, const struct timespec* sleep_for);
#define HOLD(name, load, reg, end)                                                              \
  ".globl " name "\n.type " name ",@function\n" name                                            \
  ":\npush %rbx\nmov %rdi,%rbx\nmov %rsi,%r9\nmov %rdx,%r8\n"                                   \
  ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" load " 32*\\i(%rbx)," reg                    \
  "\\i\n.endr\n"                                                                                \
  "mov %r9,%rdx\n1:\ndec %rdx\njnz 1b\n"                                                        \
  "mov $230,%eax\nmov $1,%edi\nxor %esi,%esi\nmov %r8,%rdx\nxor %r10d,%r10d\nsyscall\n"         \
  "mov %r9,%rdx\n1:\ndec %rdx\njnz 1b\n"                                                        \
  ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" load " " reg "\\i,32*\\i(%rbx)\n.endr\n" end \
  "pop %rbx\nret\n.size " name ",.-" name "\n"
__asm__(".text\n" HOLD("hold_ymm", "vmovdqu", "%ymm", "vzeroupper\n"));
__asm__(".text\n" HOLD("hold_xmm", "movdqu", "%xmm", ""));

static const int kRoundings[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
static bool has_avx;

// A sum whose last bits depend on the rounding, in both kinds of registers.
static double add_up(int terms, long double* in_x87) {
  volatile double sum = 0;
  volatile long double longer = 0;
  for (int i = 1; i <= terms; ++i) {
    sum += 1.0 / i;
    longer += 1.0L / i;
  }
  *in_x87 = longer;
  return sum;
}

static void part(int who, int round) {
  static double expected[kThreads];
  static long double expected_in_x87[kThreads];
  long double in_x87;
  if (round == 1) {
    CHECK(fesetround(kRoundings[who]) == 0, "fesetround");
    expected[who] = add_up(5000, &expected_in_x87[who]);
  }
  Registers state, before;
  fill(before, sizeof before, (uint64_t)(round * kThreads + who));
  memcpy(state, before, sizeof before);
  struct timespec sleep_for = spec_of((2 + who) * kMs);
  if (has_avx)
    hold_ymm(state, kLoops, &sleep_for);
  else
    hold_xmm(state, kLoops, &sleep_for);
  CHECK(seen(memcmp(state, before, sizeof state)) == 0, "vector registers of thread %d", who);
  CHECK(fegetround() == kRoundings[who], "the rounding of thread %d", who);
  double sum = add_up(5000, &in_x87);
  CHECK(sum == expected[who] && in_x87 == expected_in_x87[who], "the sum in thread %d", who);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_fp");
  has_avx = __builtin_cpu_supports("avx");
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    CHECK(fegetround() == FE_TONEAREST, "the rounding of the first thread");
  }
  crew_end();
  return conform_end();
}
