/* covers: calls=rt_sigprocmask kind=local; calls=clock_nanosleep kind=forwarded; breaks-when:
   SIGSEGV, SIGFPE, SIGILL or SIGTRAP of the program's own making is not handled, or with a wrong
   code or address */
#include <setjmp.h>

#include "conform.h"

static sigjmp_buf back;
static volatile int signo_seen, code_seen;
static void* volatile address_seen;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  signo_seen = signo;
  code_seen = info->si_code;
  address_seen = info->si_addr;
  siglongjmp(back, 1);
}

static void* volatile nowhere;
static volatile int zero;
extern char divide_at[], invalid_at[];

static void fault(int kind) {
  signo_seen = code_seen = 0;
  if (sigsetjmp(back, 1) != 0) return;
  switch (kind) {
    case 0:
      *(volatile int*)nowhere = 1;
      break;
    case 1:
      __asm__ volatile("xor %%edx,%%edx\nmov $1,%%eax\n.globl divide_at\ndivide_at:\nidivl %0\n"
                       :
                       : "m"(zero)
                       : "rax", "rdx");
      break;
    case 2:
      __asm__ volatile(".globl invalid_at\ninvalid_at:\nud2");
      break;
    case 3:
      __asm__ volatile("int3");
      break;
    case 4:
      // Not canonical: a general protection fault.
      *(volatile int*)((uintptr_t)1 << 62) = 1;
      break;
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_sync");
  for (int i = 0; i < 4; ++i)
    on_signal((const int[]){SIGSEGV, SIGFPE, SIGILL, SIGTRAP}[i], handler, 0);
  nowhere = MUST(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  MUST(munmap(nowhere, kPage));
  conform_ready();
  while (conform_next()) {
    fault(0);
    CHECK(seen(signo_seen) == SIGSEGV && code_seen == SEGV_MAPERR && address_seen == nowhere,
          "SIGSEGV: %d, code %d", signo_seen, code_seen);
    fault(1);
    CHECK(signo_seen == SIGFPE && code_seen == FPE_INTDIV && address_seen == divide_at,
          "SIGFPE: %d, code %d", signo_seen, code_seen);
    fault(2);
    CHECK(signo_seen == SIGILL && code_seen == ILL_ILLOPN && address_seen == invalid_at,
          "SIGILL: %d, code %d", signo_seen, code_seen);
    fault(3);
    CHECK(signo_seen == SIGTRAP && code_seen == SI_KERNEL, "SIGTRAP: %d, code %d", signo_seen,
          code_seen);
    fault(4);
    CHECK(signo_seen == SIGSEGV && code_seen == SI_KERNEL, "SIGSEGV: %d, code %d", signo_seen,
          code_seen);
  }
  return conform_end();
}
