/* covers: calls=sigaltstack kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: the
   alternate signal stack is forgotten, or a handler that runs on it is moved badly */
#include "conform.h"

enum { kStack = 128 * 1024 };

static char stack[2][kStack] __attribute__((aligned(16)));
static volatile int which;
static volatile bool on_it;
static volatile int nested;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)info, (void)context;
  volatile char local[2000];
  char* here = (char*)&local;
  on_it = here >= stack[which] && here < stack[which] + kStack;
  for (size_t i = 0; i < sizeof local; ++i) local[i] = (char)(i * 7);
  stack_t now_used;
  MUST(sigaltstack(NULL, &now_used));
  CHECK(now_used.ss_flags == SS_ONSTACK, "flags on the stack: %d", now_used.ss_flags);
  // A move may come while it runs, and a second signal arrives on the same stack.
  pause_ms(4);
  if (signo == SIGUSR1) raise(SIGUSR2);
  for (size_t i = 0; i < sizeof local; ++i) CHECK(local[i] == (char)(i * 7), "its frame");
  ++nested;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_altstack");
  on_signal(SIGUSR1, handler, SA_ONSTACK);
  on_signal(SIGUSR2, handler, SA_ONSTACK);
  MUST(sigaltstack(&(stack_t){.ss_sp = stack[0], .ss_size = kStack}, NULL));
  conform_ready();
  while (conform_next()) {
    stack_t old;
    MUST(sigaltstack(NULL, &old));
    CHECK(old.ss_sp == stack[which] && old.ss_size == kStack && old.ss_flags == 0, "its place");
    nested = 0;
    MUST(raise(SIGUSR1));
    CHECK(seen(on_it) == 1 && nested == 2, "the handler ran elsewhere");
    if (conform.round % 4 == 0) {
      which = !which;
      MUST(sigaltstack(&(stack_t){.ss_sp = stack[which], .ss_size = kStack}, NULL));
    }
  }
  return conform_end();
}
