/* covers: calls=openat kind=either; moves=away; breaks-when: /proc/self/task does not list the
   threads of the program, each once, or /proc/thread-self is another one */
#include <dirent.h>

#include "threads.h"

enum { kThreads = 4 };

static atomic_int ids[kThreads];

static void part(int who, int round) {
  atomic_store(&ids[who], gettid());
  if (round % 8 != who) return;
  char text[100], wanted[100];
  snprintf(wanted, sizeof wanted, "%d/task/%d", (int)conform.pid, (int)gettid());
  ssize_t n = MUST(readlink("/proc/thread-self", text, sizeof text - 1));
  text[n] = 0;
  CHECK(seen(strcmp(text, wanted)) == 0, "thread %d is %s, not %s", who, text, wanted);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_proc_task");
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    if (conform.round % 8 != 4) continue;
    int of_crew = 0, all = 0;
    DIR* tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL, "opendir");
    for (struct dirent* entry; (entry = readdir(tasks)) != NULL;) {
      int id = atoi(entry->d_name);
      if (id == 0) continue;
      ++all;
      for (int i = 0; i < kThreads; ++i) of_crew += id == atomic_load(&ids[i]);
    }
    closedir(tasks);
    CHECK(seen(of_crew) == kThreads && all == kThreads + 1, "%d of the crew among %d", of_crew,
          all);
    printf("%d threads\n", all);
  }
  crew_end();
  return conform_end();
}
