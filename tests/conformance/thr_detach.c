/* covers: calls=exit,tgkill kind=local; calls=read,write kind=forwarded; breaks-when: a detached
   thread that ended is still there, at home or away, or takes another one with it */
#include "threads.h"

enum { kEnders = 16 };

static int pipes[kEnders][2], back[2];
static atomic_int ids[kEnders];

static void* ender(void* argument) {
  int me = (int)unboxed(argument);
  char order;
  if (me % 2) WORKS(pthread_detach(pthread_self()));
  atomic_store(&ids[me], gettid());
  CHECK(read(pipes[me][0], &order, 1) == 1, "read");
  CHECK(write(back[1], &order, 1) == 1, "write");
  return NULL;
}

// Says whether the main process has a thread of this id, and waits a while for it to go.
static bool there(int id) {
  int64_t end = now(CLOCK_MONOTONIC) + kLate;
  while (syscall(SYS_tgkill, conform.pid, id, 0) == 0) {
    if (now(CLOCK_MONOTONIC) > end) return true;
    pause_ms(1);
  }
  CHECK(errno == ESRCH, "tgkill");
  return false;
}

static void looker(int in, int out) {
  for (int64_t id; receive_all(in, &id, sizeof id);) {
    id = there((int)id);
    send_all(out, &id, sizeof id);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_detach");
  struct helper home = conform_helper(looker);
  MUST(pipe2(back, O_CLOEXEC));
  pthread_attr_t attributes;
  WORKS(pthread_attr_init(&attributes));
  for (int i = 0; i < kEnders; ++i) {
    pthread_t thread;
    MUST(pipe2(pipes[i], O_CLOEXEC));
    int state = i % 2 ? PTHREAD_CREATE_JOINABLE : PTHREAD_CREATE_DETACHED;
    WORKS(pthread_attr_setdetachstate(&attributes, state));
    WORKS(pthread_attr_setstacksize(&attributes, kSmallStack));
    WORKS(pthread_create(&thread, &attributes, ender, boxed(i)));
    await_count(&ids[i], 1, "its start");
  }
  conform_ready();
  for (int ended = 0; conform_next();) {
    for (; ended < due(kEnders); ++ended) {
      int id = atomic_load(&ids[ended]);
      char order = (char)ended, got = 0;
      MUST(syscall(SYS_tgkill, conform.pid, id, 0));
      CHECK(write(pipes[ended][1], &order, 1) == 1, "write");
      CHECK(read(back[0], &got, 1) == 1 && got == order, "its last words");
      CHECK(seen(there(id)) == 0, "thread %d has not gone", ended);
      CHECK(ask(&home, id) == 0, "home still has thread %d", ended);
    }
    // The others are where they were.
    for (int i = ended; i < kEnders; ++i)
      MUST(syscall(SYS_tgkill, conform.pid, atomic_load(&ids[i]), 0));
  }
  return conform_end();
}
