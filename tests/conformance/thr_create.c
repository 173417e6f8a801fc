/* covers: calls=clone3 kind=forwarded; moves=away; breaks-when: a thread that is started while away
   does not run, has another id for itself than for the others, or does not inherit what it should
 */
#include "threads.h"

enum { kThreads = 3 };

static __thread int own = 55;
static int pipes[kThreads][2];

struct start {
  int who, round;
  atomic_int id;
  uint64_t sum;
};

static void* body(void* argument) {
  struct start* start = argument;
  sigset_t mask;
  CHECK(own == 55, "its variables");
  own = start->who;
  WORKS(pthread_sigmask(SIG_BLOCK, NULL, &mask));
  CHECK(sigismember(&mask, SIGUSR2) == 1, "its mask");
  CHECK(getpid() == conform.pid && gettid() != conform.pid, "its ids");
  atomic_store(&start->id, gettid());
  // It goes on while it may be moved again, with calls of its own.
  unsigned char byte = 0;
  CHECK(read(pipes[start->who][0], &byte, 1) == 1, "read");
  for (int i = 0; i < 100000; ++i) start->sum = start->sum * 5 + byte;
  pause_ms(start->who * 5);
  CHECK(own == start->who && gettid() == atomic_load(&start->id), "thread %d", start->who);
  return boxed(start->round * 10 + start->who);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_create");
  for (int i = 0; i < kThreads; ++i) MUST(pipe2(pipes[i], O_CLOEXEC));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  conform_ready();
  static struct start starts[kThreads];
  static pthread_t threads[kThreads];
  while (conform_next()) {
    if (conform.round % 8 == 4)
      for (int i = 0; i < kThreads; ++i) {
        starts[i].who = i;
        starts[i].round = conform.round;
        starts[i].sum = 0;
        atomic_store(&starts[i].id, 0);
        threads[i] = thread_start(body, &starts[i]);
        await_count(&starts[i].id, 1, "its start");
        MUST(syscall(SYS_tgkill, conform.pid, atomic_load(&starts[i].id), 0));
      }
    if (conform.round % 8 != 7) continue;
    for (int i = 0; i < kThreads; ++i) {
      unsigned char byte = (unsigned char)(conform.round + i);
      void* value;
      CHECK(write(pipes[i][1], &byte, 1) == 1, "write");
      WORKS(pthread_join(threads[i], &value));
      CHECK(seen(unboxed(value)) == (conform.round - 3) * 10 + i, "it returned %d",
            (int)unboxed(value));
      uint64_t sum = 0;
      for (int j = 0; j < 100000; ++j) sum = sum * 5 + byte;
      CHECK(starts[i].sum == sum, "the sum");
    }
    printf("joined\n");
  }
  return conform_end();
}
