/* covers: calls=arch_prctl kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: the gs
   base is lost or stays behind when it is changed */
#include <asm/prctl.h>

#include "conform.h"

static uint64_t area[2][8];

static uint64_t load_gs(void) {
  uint64_t value;
  __asm__ volatile("mov %%gs:16,%0" : "=r"(value));
  return value;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "tls_gs");
  area[0][2] = 1000, area[1][2] = 2000;
  MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, area[0]));
  conform_ready();
  while (conform_next()) {
    int which = conform.round / 3 % 2;
    CHECK(seen((long long)load_gs()) == (long long)area[(conform.round - 1) / 3 % 2][2], "gs base");
    MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, area[which]));
    ++area[which][2];
    spin_ms(3);
    uint64_t base = 0;
    MUST(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    CHECK(base == (uintptr_t)area[which], "gs base read back");
    printf("gs %llu\n", (unsigned long long)load_gs());
  }
  return conform_end();
}
