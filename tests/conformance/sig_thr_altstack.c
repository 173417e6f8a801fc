/* covers: calls=sigaltstack kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a thread
   loses its alternate signal stack, or a handler runs on that of another thread */
#include "threads.h"

enum { kThreads = 4, kStack = 64 * 1024 };

static char stacks[kThreads][kStack] __attribute__((aligned(16)));
static __thread int me;
static __thread volatile int handled;
static __thread volatile bool on_it;
static pthread_barrier_t all;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)info, (void)context;
  volatile char local[2000];
  char* here = (char*)&local;
  on_it = here >= stacks[me] && here < stacks[me] + kStack;
  for (size_t i = 0; i < sizeof local; ++i) local[i] = (char)(i * 7 + (size_t)me);
  stack_t used;
  MUST(sigaltstack(NULL, &used));
  CHECK(used.ss_flags == SS_ONSTACK && used.ss_sp == stacks[me], "flags %d", used.ss_flags);
  // All are in their handlers at once, and a move may come while they are.
  pthread_barrier_wait(&all);
  pause_ms(4);
  if (signo == SIGUSR1) raise(SIGUSR2);
  for (size_t i = 0; i < sizeof local; ++i)
    CHECK(local[i] == (char)(i * 7 + (size_t)me), "its frame");
  ++handled;
}

static void part(int who, int round) {
  if (round == 1) {
    me = who;
    MUST(sigaltstack(&(stack_t){.ss_sp = stacks[me], .ss_size = kStack}, NULL));
  }
  stack_t old;
  MUST(sigaltstack(NULL, &old));
  CHECK(old.ss_sp == stacks[who] && old.ss_size == kStack && old.ss_flags == 0, "its place");
  handled = 0;
  MUST(raise(SIGUSR1));
  CHECK(seen(on_it) == 1 && handled == 2, "the handler of thread %d ran elsewhere", who);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_altstack");
  on_signal(SIGUSR1, handler, SA_ONSTACK);
  on_signal(SIGUSR2, handler, SA_ONSTACK);
  WORKS(pthread_barrier_init(&all, NULL, kThreads));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    stack_t none;
    MUST(sigaltstack(NULL, &none));
    CHECK(none.ss_flags == SS_DISABLE, "the main thread has one");
  }
  crew_end();
  return conform_end();
}
