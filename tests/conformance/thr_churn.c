/* covers: calls=clone3,getppid kind=forwarded; breaks-when: of many threads that are made and
   joined one after the other some do not run, or cost room for ever */
#include "threads.h"

enum { kAtOnce = 6, kGenerations = 8 };

struct one {
  int who;
  uint64_t sum;
};

static pid_t parent;

static uint64_t sum_of(int who) {
  unsigned char frame[500];
  uint64_t sum = 0;
  fill(frame, sizeof frame, (uint64_t)who);
  for (size_t i = 0; i < sizeof frame; ++i) sum = sum * 31 + frame[i];
  return sum;
}

static void* body(void* argument) {
  struct one* one = argument;
  pid_t id = gettid();
  CHECK(getppid() == parent, "the parent");
  one->sum = sum_of(one->who);
  CHECK(gettid() == id, "thread %d has become %d", (int)id, (int)gettid());
  return one;
}

static void generation(int number) {
  struct one all[kAtOnce] = {0};
  pthread_t threads[kAtOnce];
  for (int i = 0; i < kAtOnce; ++i) {
    all[i].who = number * kAtOnce + i;
    threads[i] = thread_start(body, &all[i]);
  }
  for (int i = 0; i < kAtOnce; ++i) {
    void* result;
    WORKS(pthread_join(threads[i], &result));
    CHECK(result == &all[i], "thread %d returned something else", all[i].who);
    CHECK(seen(all[i].sum == sum_of(all[i].who)) == 1, "thread %d computed something else",
          all[i].who);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_churn");
  parent = getppid();
  conform_ready();
  while (conform_next())
    for (int i = 0; i < kGenerations; ++i) generation(conform.round * kGenerations + i);
  return conform_end();
}
