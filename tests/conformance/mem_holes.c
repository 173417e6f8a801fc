/* covers: calls=mmap,munmap kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a hole
   between mappings, or a guard page, becomes accessible, or faults with another code */
#include <setjmp.h>

#include "conform.h"

enum { kPages = 90 };

static sigjmp_buf back;
static volatile int code;
static void fault(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  code = info->si_code;
  siglongjmp(back, 1);
}

// 0 if the byte can be read, otherwise the si_code of the fault.
static int probe(volatile char* at) {
  code = 0;
  if (sigsetjmp(back, 1) == 0) (void)*at;
  return code;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_holes");
  char* area =
      MUST(mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  // Page i: mapped, a hole, a guard, by i % 3.
  for (int i = 0; i < kPages; ++i) {
    fill(area + i * kPage, kPage, (uint64_t)i);
    if (i % 3 == 1) MUST(munmap(area + i * kPage, kPage));
    if (i % 3 == 2) MUST(mprotect(area + i * kPage, kPage, PROT_NONE));
  }
  on_signal(SIGSEGV, fault, SA_NODEFER);
  const int expected[] = {0, SEGV_MAPERR, SEGV_ACCERR};
  conform_ready();
  uint64_t seed = 17;
  while (conform_next()) {
    for (int i = 0; i < kPages; ++i) {
      CHECK(seen(probe(area + i * kPage + 77)) == expected[i % 3], "page %d", i);
      if (i % 3 == 0) CHECK(filled(area + i * kPage, kPage, (uint64_t)i), "contents of %d", i);
    }
    // Fill one hole and dig it again.
    char* hole = area + (next_random(&seed) % (kPages / 3) * 3 + 1) * kPage;
    MUST(mmap(hole, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    CHECK(probe(hole) == 0, "a filled hole");
    MUST(munmap(hole, kPage));
  }
  return conform_end();
}
