/* covers: calls=rt_sigprocmask kind=local; calls=write kind=forwarded; breaks-when: a signal for
   the process does not go to the one thread that lets it in, or a thread has another one's mask */
#include "threads.h"

enum { kThreads = 5 };

static struct helper home;
static atomic_int handled, handler_id, handled_signo;
static atomic_int ids[kThreads];
static pthread_barrier_t ready;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)context;
  CHECK(info->si_code == SI_USER, "code %d", info->si_code);
  atomic_store(&handler_id, gettid());
  atomic_store(&handled_signo, signo);
  atomic_fetch_add(&handled, 1);
}

static void sender(int in, int out) {
  int64_t signo;
  while (receive_all(in, &signo, sizeof signo)) {
    kill(conform.pid, (int)signo);
    send_all(out, &signo, sizeof signo);
  }
}

// Blocked in every thread: SIGUSR1, SIGUSR2 and one that says which thread it is.
static void set_of(int who, sigset_t* set) {
  sigemptyset(set);
  sigaddset(set, SIGUSR1);
  sigaddset(set, SIGUSR2);
  sigaddset(set, SIGRTMIN + who);
}

static void check_mask(int who, int without) {
  sigset_t wanted, got;
  set_of(who, &wanted);
  if (without) sigdelset(&wanted, without);
  WORKS(pthread_sigmask(SIG_BLOCK, NULL, &got));
  for (int signo = 1; signo < SIGRTMIN + kThreads; ++signo) {
    if (signo == 32 || signo == 33) continue;  // the C library's
    CHECK(seen(sigismember(&got, signo)) == sigismember(&wanted, signo),
          "signal %d in the mask of thread %d", signo, who);
  }
}

static void part(int who, int round) {
  // Each of them is the open one in turn; another one of the threads, or home, sends.
  int open = round % kThreads, asker = (round / 2 + 1) % kThreads;
  int signo = round % 3 ? SIGUSR1 : SIGUSR2;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  if (round == 1) {
    atomic_store(&ids[who], gettid());
    set_of(who, &set);
    WORKS(pthread_sigmask(SIG_SETMASK, &set, NULL));
  } else {
    check_mask(who, 0);
    if (who == open) WORKS(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
  }
  pthread_barrier_wait(&ready);
  if (round == 1) return;
  if (who == asker && round % 2)
    CHECK(ask(&home, signo) == signo, "the sender");
  else if (who == asker)
    MUST(kill(getpid(), signo));
  await_count(&handled, round - 1, "signals");
  CHECK(seen(atomic_load(&handler_id)) == atomic_load(&ids[open]), "it went to thread %d, not %d",
        atomic_load(&handler_id), atomic_load(&ids[open]));
  CHECK(atomic_load(&handled_signo) == signo, "signal %d", atomic_load(&handled_signo));
  check_mask(who, who == open ? signo : 0);
  pthread_barrier_wait(&ready);
  if (who == open) WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_thr_mask");
  home = conform_helper(sender);
  on_signal(SIGUSR1, handler, 0);
  on_signal(SIGUSR2, handler, 0);
  // The main thread lets none in, and its mask is where those of the others come from.
  sigset_t set;
  set_of(0, &set);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  WORKS(pthread_barrier_init(&ready, NULL, kThreads));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    check_mask(0, 0);
  }
  CHECK(seen(atomic_load(&handled)) == conform.rounds - 1, "%d signals", atomic_load(&handled));
  crew_end();
  return conform_end();
}
