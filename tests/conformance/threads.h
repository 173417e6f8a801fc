// What the programs of several threads share: a crew that takes part in every round, single
// threads, and ways to wait for one another that fail instead of hanging.
//
// Helpers are forked first (conform_helper), then threads are made, then conform_ready() is said.
// conform_next() and conform_end() are the main thread's; a member of the crew is told the round.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "conform.h"

enum { kMaxCrew = 64, kSmallStack = 256 * 1024 };

// For calls that return an error number: ends the program with FAIL unless it is 0.
#define WORKS(call) GIVES(0, call)

// The same for another number.
#define GIVES(error, call)                                               \
  do {                                                                   \
    int given = (call);                                                  \
    CHECK(given == (error), "%s gave %d, not %s", #call, given, #error); \
  } while (0)

// Starts a thread with a stack of a certain size.
static inline pthread_t thread_with_stack(size_t size, void* (*body)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  WORKS(pthread_attr_init(&attributes));
  WORKS(pthread_attr_setstacksize(&attributes, size));
  WORKS(pthread_create(&thread, &attributes, body, argument));
  WORKS(pthread_attr_destroy(&attributes));
  return thread;
}
static inline pthread_t thread_start(void* (*body)(void*), void* argument) {
  return thread_with_stack(kSmallStack, body, argument);
}

// Numbers as arguments and results of threads.
static inline void* boxed(intptr_t number) { return (void*)number; }
static inline intptr_t unboxed(void* box) { return (intptr_t)box; }

// Waits until another thread has made the value at least so large.
static inline void await_count(atomic_int* value, int least, const char* what) {
  int64_t end = now(CLOCK_MONOTONIC) + kLate;
  while (atomic_load(value) < least) {
    CHECK(now(CLOCK_MONOTONIC) < end, "%s: %d, not yet %d", what, atomic_load(value), least);
    pause_ms(1);
  }
}

// Of things that happen once each, how many have their turn in this round or had it before: all
// in the last round, spread over the rounds before it.
static inline int due(int all) { return conform.round * all / conform.rounds; }

// ---- The crew ----

static struct {
  pthread_mutex_t lock;
  pthread_cond_t begun, finished;
  int size;
  int round;  // the one to take part in, 0 before the first
  int busy;   // how many have not finished it
  bool over;
  void (*part)(int who, int round);
  pthread_t thread[kMaxCrew];
} crew = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .begun = PTHREAD_COND_INITIALIZER,
          .finished = PTHREAD_COND_INITIALIZER};

static inline void* crew_member(void* argument) {
  for (int round = 0;;) {
    WORKS(pthread_mutex_lock(&crew.lock));
    while (crew.round == round && !crew.over) WORKS(pthread_cond_wait(&crew.begun, &crew.lock));
    round = crew.round;
    bool over = crew.over;
    WORKS(pthread_mutex_unlock(&crew.lock));
    if (over) return argument;
    crew.part((int)unboxed(argument), round);
    WORKS(pthread_mutex_lock(&crew.lock));
    if (--crew.busy == 0) WORKS(pthread_cond_signal(&crew.finished));
    WORKS(pthread_mutex_unlock(&crew.lock));
  }
}

// Makes `size` threads that will each call part(0..size-1, round) in every round.
static inline void crew_with_stacks(size_t stack, int size, void (*part)(int who, int round)) {
  crew.size = size;
  crew.part = part;
  for (int i = 0; i < size; ++i) crew.thread[i] = thread_with_stack(stack, crew_member, boxed(i));
}
static inline void crew_start(int size, void (*part)(int who, int round)) {
  crew_with_stacks(kSmallStack, size, part);
}

// Lets the crew do its part in this round.
static inline void crew_begin(void) {
  WORKS(pthread_mutex_lock(&crew.lock));
  crew.round = conform.round;
  crew.busy = crew.size;
  WORKS(pthread_cond_broadcast(&crew.begun));
  WORKS(pthread_mutex_unlock(&crew.lock));
}

// Waits until each has done it.
static inline void crew_finish(void) {
  struct timespec end = spec_of(now(CLOCK_MONOTONIC) + kLate);
  WORKS(pthread_mutex_lock(&crew.lock));
  while (crew.busy > 0) {
    int error = pthread_cond_clockwait(&crew.finished, &crew.lock, CLOCK_MONOTONIC, &end);
    CHECK(error == 0, "%d threads do not finish their round (%d)", crew.busy, error);
  }
  WORKS(pthread_mutex_unlock(&crew.lock));
}

static inline void crew_round(void) {
  crew_begin();
  crew_finish();
}

// Ends and joins them.
static inline void crew_end(void) {
  WORKS(pthread_mutex_lock(&crew.lock));
  crew.over = true;
  WORKS(pthread_cond_broadcast(&crew.begun));
  WORKS(pthread_mutex_unlock(&crew.lock));
  for (int i = 0; i < crew.size; ++i) {
    void* result;
    WORKS(pthread_join(crew.thread[i], &result));
    CHECK(unboxed(result) == i, "thread %d returned %d", i, (int)unboxed(result));
  }
}
