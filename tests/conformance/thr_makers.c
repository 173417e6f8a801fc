/* covers: calls=clone3 kind=either; breaks-when: a thread that ends while the process is stopped
   for a move keeps it from moving, or one that is made is left behind */
#include "threads.h"

enum { kMakers = 3, kMade = 40 };

static atomic_int lived;

static void* made(void* argument) {
  atomic_fetch_add(&lived, 1);
  return argument;
}

static void* maker(void* argument) {
  for (int i = 0; i < kMade; ++i) {
    pthread_t thread = thread_start(made, argument);
    if (i % 2) {
      WORKS(pthread_detach(thread));
    } else {
      void* result;
      WORKS(pthread_join(thread, &result));
      CHECK(result == argument, "another result");
    }
  }
  return argument;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_makers");
  conform_ready();
  while (conform_next()) {
    pthread_t makers[kMakers];
    atomic_store(&lived, 0);
    for (int i = 0; i < kMakers; ++i) makers[i] = thread_start(maker, boxed(i));
    for (int i = 0; i < kMakers; ++i) WORKS(pthread_join(makers[i], NULL));
    await_count(&lived, kMakers * kMade, "the end of all");
    CHECK(seen(atomic_load(&lived)) == kMakers * kMade, "%d lived", atomic_load(&lived));
  }
  return conform_end();
}
