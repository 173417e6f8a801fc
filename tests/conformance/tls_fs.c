/* covers: calls=arch_prctl kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: the fs
   base, and with it the thread's own variables, is lost */
#include <asm/prctl.h>

#include "conform.h"

static __thread uint64_t zeroed_counter;
static __thread uint64_t counters[16] = {1, 2, 3, 4, 5, 6, 7, 8};

int main(int argc, char** argv) {
  conform_begin(argc, argv, "tls_fs");
  uint64_t base = 0;
  MUST(syscall(SYS_arch_prctl, ARCH_GET_FS, &base));
  uint64_t* where = &zeroed_counter;
  conform_ready();
  while (conform_next()) {
    uint64_t base_now = 0, self;
    MUST(syscall(SYS_arch_prctl, ARCH_GET_FS, &base_now));
    __asm__ volatile("mov %%fs:0,%0" : "=r"(self));
    CHECK(seen((long long)base_now) == (long long)base && self == base, "fs base");
    CHECK(where == &zeroed_counter && *where == (uint64_t)conform.round - 1, "thread variable");
    ++zeroed_counter;
    for (int i = 0; i < 16; ++i) counters[i] += (uint64_t)i;
    // errno is a thread variable as well, set by a failing call.
    MUST_FAIL(EBADF, close(-1));
    spin_ms(3);
    CHECK(errno == EBADF, "errno");
    uint64_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += counters[i];
    printf("sum %llu\n", (unsigned long long)sum);
  }
  return conform_end();
}
