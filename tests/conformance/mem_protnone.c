/* covers: calls=mprotect,rt_sigreturn kind=local; calls=clock_nanosleep kind=forwarded;
   breaks-when: a PROT_NONE page becomes accessible, loses its bytes, or the fault's siginfo is
   wrong */
#include "conform.h"

enum { kPages = 64 };

static char* area;
static volatile int faults;
static volatile int fault_code;
static char* volatile fault_at;

static void open_page(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++faults;
  fault_code = info->si_code;
  fault_at = info->si_addr;
  char* page = (char*)((uintptr_t)info->si_addr & ~(uintptr_t)(kPage - 1));
  if (page < area || page >= area + kPages * kPage ||
      mprotect(page, kPage, PROT_READ | PROT_WRITE) != 0)
    _exit(3);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_protnone");
  area =
      MUST(mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uint32_t count[kPages] = {0};
  for (int i = 0; i < kPages; ++i) *(uint32_t*)(area + i * kPage + 100) = 0;
  on_signal(SIGSEGV, open_page, 0);
  MUST(mprotect(area, kPages * kPage, PROT_NONE));
  conform_ready();
  uint64_t seed = 12;
  int expected = 0;
  while (conform_next()) {
    for (int n = 0; n < 8; ++n) {
      int i = (int)(next_random(&seed) % kPages);
      uint32_t* at = (uint32_t*)(area + i * kPage + 100);
      CHECK(seen(*(volatile uint32_t*)at) == count[i], "page %d", i);
      CHECK(faults == ++expected, "%d faults, not %d", faults, expected);
      CHECK(fault_code == SEGV_ACCERR && fault_at == (char*)at, "fault information");
      *at = ++count[i];
      CHECK(faults == expected, "a fault on an open page");
      MUST(mprotect(area + i * kPage, kPage, PROT_NONE));
    }
    printf("faults %d\n", faults);
  }
  return conform_end();
}
