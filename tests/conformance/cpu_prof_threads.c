/* covers: calls=setitimer kind=forwarded; calls=futex kind=local; breaks-when: SIGPROF goes to a
   thread that waits, while another one computes */
#include <sys/time.h>

#include "threads.h"

enum { kWaiting = 3 };

static atomic_int ready, wrong, right, over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static __thread bool computes;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  atomic_fetch_add(computes ? &right : &wrong, 1);
}

static int gate[2];

// One waits for a futex, one in a read, one in a sleep.
static void* waiter(void* argument) {
  int how = (int)unboxed(argument);
  atomic_fetch_add(&ready, 1);
  if (how == 0) {
    WORKS(pthread_mutex_lock(&lock));
    while (!atomic_load(&over)) WORKS(pthread_cond_wait(&changed, &lock));
    WORKS(pthread_mutex_unlock(&lock));
  } else if (how == 1) {
    char byte;
    while (read(gate[0], &byte, 1) < 0) CHECK(errno == EINTR, "read");
  } else {
    while (!atomic_load(&over)) pause_ms(50);
  }
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_prof_threads");
  on_signal(SIGPROF, handler, SA_RESTART);
  MUST(pipe2(gate, O_CLOEXEC));
  pthread_t threads[kWaiting];
  for (int i = 0; i < kWaiting; ++i) threads[i] = thread_start(waiter, boxed(i));
  await_count(&ready, kWaiting, "threads");
  computes = true;
  conform_ready();
  struct itimerval often = {.it_value.tv_usec = 5000, .it_interval.tv_usec = 5000}, none = {0};
  while (conform_next()) {
    int before = atomic_load(&right);
    MUST(setitimer(ITIMER_PROF, &often, NULL));
    int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
    while (atomic_load(&right) < before + 3) {
      for (volatile int i = 0; i < 10000; ++i) {
      }
      CHECK(now(CLOCK_MONOTONIC) < give_up, "no signals");
    }
    MUST(setitimer(ITIMER_PROF, &none, NULL));
  }
  // A thread that was just going to wait again may have been found computing, hardly ever.
  CHECK(seen(atomic_load(&wrong) * 20 <= atomic_load(&right)) == 1, "%d of %d to waiting threads",
        atomic_load(&wrong), atomic_load(&right));
  atomic_store(&over, 1);
  WORKS(pthread_cond_broadcast(&changed));
  MUST(write(gate[1], "x", 1));
  for (int i = 0; i < kWaiting; ++i) WORKS(pthread_join(threads[i], NULL));
  return conform_end();
}
