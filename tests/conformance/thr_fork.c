/* covers: calls=clone kind=comehome; moves=away; breaks-when: a fork by one of several threads
   while away disturbs the others, or gives a child with another memory or more than one thread */
#include "threads.h"

enum { kThreads = 4 };

static unsigned char data[64 * 1024];
static atomic_int forks, running;
static atomic_bool over;

// Works on while another one forks.
static void* worker(void* argument) {
  char byte;
  int ends[2];
  MUST(pipe2(ends, O_CLOEXEC));
  for (long count = 0; !atomic_load(&over); ++count) {
    unsigned char said = (unsigned char)count;
    CHECK(write(ends[1], &said, 1) == 1, "write");
    CHECK(read(ends[0], &byte, 1) == 1 && (unsigned char)byte == said, "read");
    if (count == 0) atomic_fetch_add(&running, 1);
    pause_ms(2);
  }
  return argument;
}

static void fork_in(int who, int round) {
  int ends[2];
  MUST(pipe2(ends, O_CLOEXEC));
  pid_t child = MUST(fork());
  if (child == 0) {
    char result = filled(data, sizeof data, (uint64_t)round) && getppid() == conform.pid &&
                  gettid() == getpid();
    memset(data, 0, sizeof data);
    if (write(ends[1], &result, 1) != 1) _exit(1);
    _exit(round % 100 + who);
  }
  char result = 0;
  CHECK(read(ends[0], &result, 1) == 1 && result == 1, "what the child saw");
  int status;
  CHECK(waitpid(child, &status, 0) == child, "waitpid");
  CHECK(WIFEXITED(status) && seen(WEXITSTATUS(status)) == round % 100 + who, "status %x", status);
  CHECK(filled(data, sizeof data, (uint64_t)round), "the child wrote into the parent");
  MUST(close(ends[0]));
  MUST(close(ends[1]));
  atomic_fetch_add(&forks, 1);
}

static void part(int who, int round) {
  if (round / 8 % 2 == who) fork_in(who, round);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_fork");
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) threads[i] = thread_start(worker, boxed(i));
  crew_start(2, part);
  await_count(&running, kThreads, "threads");
  conform_ready();
  int expected = 0;
  while (conform_next()) {
    fill(data, sizeof data, (uint64_t)conform.round);
    if (conform.round % 8 != 4) continue;
    crew_round();
    CHECK(atomic_load(&forks) == ++expected, "%d forks", atomic_load(&forks));
    printf("forked\n");
  }
  atomic_store(&over, true);
  for (int i = 0; i < kThreads; ++i) WORKS(pthread_join(threads[i], NULL));
  crew_end();
  return conform_end();
}
