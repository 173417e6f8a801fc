/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: MXCSR (rounding, flush to zero, sticky
   flags) or the x87 control word (rounding, precision) is reset by a move */
#include "conform.h"

static uint32_t get_mxcsr(void) {
  uint32_t value;
  __asm__ volatile("stmxcsr %0" : "=m"(value));
  return value;
}
static void set_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }
static uint16_t get_x87(void) {
  uint16_t value;
  __asm__ volatile("fnstcw %0" : "=m"(value));
  return value;
}
static void set_x87(uint16_t value) { __asm__ volatile("fldcw %0" : : "m"(value)); }

// All exceptions masked; rounding in bits 13-14 (SSE) and 10-11 (x87), precision in 8-9.
static const uint32_t kMxcsr[] = {0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0};
static const uint16_t kX87[] = {0x037f, 0x077f, 0x0b7f, 0x0f7f, 0x007f, 0x027f};

int main(int argc, char** argv) {
  conform_begin(argc, argv, "fp_control");
  conform_ready();
  volatile double one = 1, three = 3;
  volatile long double long_one = 1, long_three = 3;
  while (conform_next()) {
    uint32_t mxcsr = kMxcsr[conform.round % 5];
    uint16_t x87 = kX87[conform.round % 6];
    set_mxcsr(mxcsr);
    set_x87(x87);
    pause_ms(6);
    double first = one / three;
    long double long_first = long_one / long_three;
    // The division was inexact: that flag stays until somebody clears it.
    spin_ms(3);
    pause_ms(6);
    double second = one / three;
    long double long_second = long_one / long_three;
    uint32_t mxcsr_after = get_mxcsr();
    uint16_t x87_after = get_x87();
    set_mxcsr(0x1f80);
    set_x87(0x037f);
    CHECK(seen(mxcsr_after) == (mxcsr | 0x20), "mxcsr %x", mxcsr_after);
    CHECK(x87_after == x87, "x87 control word %x", x87_after);
    CHECK(first == second && long_first == long_second, "rounding changed on the way");
    printf("%.17g %.21Lg\n", first, long_first);
  }
  return conform_end();
}
