/* covers: calls=clone3 kind=either; calls=getppid kind=forwarded; breaks-when: threads for which
   home has no room at once are lost, or wait for ever */
#include "threads.h"

// More than a process that leaves gets room for.
enum { kThreads = 40 };

static pid_t parent;
static pthread_barrier_t barrier;

static void* body(void* argument) {
  pid_t id = gettid();
  int result = pthread_barrier_wait(&barrier);
  CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD, "the barrier: %d", result);
  CHECK(getppid() == parent && gettid() == id, "thread %d", (int)id);
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_spare");
  parent = getppid();
  WORKS(pthread_barrier_init(&barrier, NULL, kThreads));
  conform_ready();
  while (conform_next()) {
    CHECK(getppid() == parent, "the parent");
    if (conform.round % 4 != 2) continue;
    pthread_t threads[kThreads];
    for (int i = 0; i < kThreads; ++i) threads[i] = thread_start(body, boxed(i));
    for (int i = 0; i < kThreads; ++i) {
      void* result;
      WORKS(pthread_join(threads[i], &result));
      CHECK(seen(unboxed(result)) == i, "thread %d returned %d", i, (int)unboxed(result));
    }
  }
  return conform_end();
}
