/* covers: calls=rt_sigprocmask,mprotect,sigaltstack kind=local; calls=clock_nanosleep
   kind=forwarded; breaks-when: a fault of a thread is not handled in it, on its own alternate stack
   and with its address, or the jump out of the handler ends elsewhere */
#include <setjmp.h>

#include "threads.h"

enum { kThreads = 4, kStack = 64 * 1024, kFaults = 4 };

static char stacks[kThreads][kStack] __attribute__((aligned(16)));
static char* pages;
static __thread sigjmp_buf back;
static __thread int me;
static __thread volatile int faults;
static __thread void* volatile address;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  char* here = (char*)&signo;
  CHECK(here >= stacks[me] && here < stacks[me] + kStack, "not on the stack of thread %d", me);
  CHECK(info->si_code == SEGV_ACCERR, "code %d", info->si_code);
  address = info->si_addr;
  ++faults;
  // The second time it mends what was wrong; else it leaves.
  if (faults % 2 == 0)
    MUST(mprotect(pages + me * kPage, kPage, PROT_READ | PROT_WRITE));
  else
    siglongjmp(back, 1);
}

static void part(int who, int round) {
  volatile char* page = pages + who * kPage;
  me = who;
  if (round == 1) MUST(sigaltstack(&(stack_t){.ss_sp = stacks[who], .ss_size = kStack}, NULL));
  for (int i = 0; i < kFaults; ++i) {
    volatile char* at = page + (round * kFaults + i) * 8 % kPage;
    int before = faults;
    MUST(mprotect((void*)page, kPage, PROT_READ));
    address = NULL;
    if (sigsetjmp(back, 1) == 0) {
      *at = (char)round;
      CHECK(faults % 2 == 0 && *at == (char)round, "it was not written");
    } else {
      CHECK(faults % 2 == 1, "fault %d", faults);
    }
    CHECK(seen(faults) == before + 1, "%d faults", faults - before);
    CHECK(address == at, "the address in thread %d", who);
    sigset_t mask;
    WORKS(pthread_sigmask(SIG_BLOCK, NULL, &mask));
    CHECK(sigismember(&mask, SIGSEGV) == 0, "the mask");
    if (i == who) pause_ms(3);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_segv");
  pages = MUST(mmap(NULL, kThreads * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  on_signal(SIGSEGV, handler, SA_ONSTACK);
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) crew_round();
  crew_end();
  return conform_end();
}
