/* covers: calls=mprotect kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: code
   written at run time is stale, lost or not executable after a move */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_code");
  // mov $imm32,%eax; lea (%rax,%rdi,4),%eax; ret
  unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x8d, 0x04, 0xb8, 0xc3};
  unsigned char* at =
      MUST(mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  memcpy(at, code, sizeof code);
  memcpy(at + kPage, code, sizeof code);
  MUST(mprotect(at, 2 * kPage, PROT_READ | PROT_EXEC));
  conform_ready();
  uint32_t base[2] = {0, 0};
  while (conform_next()) {
    int which = conform.round % 2;
    unsigned char* page = at + which * kPage;
    uint32_t (*function)(uint32_t) = (uint32_t(*)(uint32_t))(uintptr_t)page;
    CHECK(seen(function(5)) == base[which] + 20, "the old code");
    base[which] = (uint32_t)conform.round * 1000;
    MUST(mprotect(page, kPage, PROT_READ | PROT_WRITE));
    memcpy(page + 1, &base[which], 4);
    MUST(mprotect(page, kPage, PROT_READ | PROT_EXEC));
    CHECK(function(7) == base[which] + 28, "the new code");
    printf("code %u\n", function(9));
  }
  return conform_end();
}
