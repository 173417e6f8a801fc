/* covers: calls=openat,prctl kind=either; moves=away; breaks-when: the name that a thread gives
   itself or gets from another one is not its own, or not the one that home sees */
#include "threads.h"

enum { kThreads = 4, kNameSize = 16 };

static atomic_int ids[kThreads];

static void name_of(int who, int64_t round, char* name) {
  snprintf(name, kNameSize, "t%d in %d", who % 10, (int)(round % 100000));
}

// Compares the names of a thread of the main process: asked with id, who and round in a number.
static void looker(int in, int out) {
  for (int64_t question; receive_all(in, &question, sizeof question);) {
    char path[80], name[kNameSize], text[60];
    snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)conform.pid,
             (int)(question / 1000000));
    name_of((int)(question / 100000 % 10), question % 100000, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int64_t answer = n > 0 && n == (ssize_t)strlen(name) + 1 && memcmp(text, name, n - 1) == 0;
    close(fd);
    send_all(out, &answer, sizeof answer);
  }
}

static void part(int who, int round) {
  char name[kNameSize], got[kNameSize];
  if (round == 1) atomic_store(&ids[who], gettid());
  // Half of them get their names from the main thread, in the fourth round of four.
  int named = who % 2 == 0 ? round : (round - 1) / 4 * 4;
  if (named == 0) return;
  name_of(who, named, name);
  if (who % 2 == 0) WORKS(pthread_setname_np(pthread_self(), name));
  pause_ms(2);
  WORKS(pthread_getname_np(pthread_self(), got, sizeof got));
  CHECK(seen(strcmp(got, name)) == 0, "thread %d is %s, not %s", who, got, name);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_names");
  struct helper home = conform_helper(looker);
  crew_start(kThreads, part);
  conform_ready();
  char own[kNameSize], name[kNameSize], got[kNameSize];
  WORKS(pthread_getname_np(pthread_self(), own, sizeof own));
  while (conform_next()) {
    crew_round();
    if (conform.round % 4 != 0) continue;
    for (int who = 0; who < kThreads; ++who) {
      name_of(who, conform.round, name);
      if (who % 2 != 0) WORKS(pthread_setname_np(crew.thread[who], name));
      WORKS(pthread_getname_np(crew.thread[who], got, sizeof got));
      CHECK(seen(strcmp(got, name)) == 0, "thread %d is %s, not %s", who, got, name);
      int64_t question = atomic_load(&ids[who]) * 1000000LL + who * 100000 + conform.round;
      CHECK(ask(&home, question) == 1, "home sees another name of thread %d", who);
    }
    WORKS(pthread_getname_np(pthread_self(), got, sizeof got));
    CHECK(strcmp(got, own) == 0, "the main thread is %s", got);
  }
  crew_end();
  return conform_end();
}
