/* covers: calls=write,writev kind=forwarded; breaks-when: of what several threads append to a file,
   by descriptors of their own or at one common offset, something is lost, torn or doubled */
#include <sys/uio.h>

#include "threads.h"

enum { kThreads = 5, kLines = 6 };

static int appended[kThreads], common;

static void put(int fd, int who, int number) {
  char line[100];
  int size = snprintf(line, sizeof line, "%d %d:%.*s\n", who, number, number % 50,
                      "..................................................");
  if (number % 2) {
    CHECK(seen(write(fd, line, (size_t)size)) == size, "write");
    return;
  }
  struct iovec halves[2] = {{.iov_base = line, .iov_len = 3},
                            {.iov_base = line + 3, .iov_len = (size_t)size - 3}};
  CHECK(writev(fd, halves, 2) == size, "writev");
}

static void part(int who, int round) {
  for (int i = 0; i < kLines; ++i) {
    int number = (round - 1) * kLines + i;
    put(appended[who], who, number);
    put(common, who, number);
    if (i == round % kLines) pause_ms(2);
  }
}

// Each thread's lines are there in their order, whole.
static void check(const char* name) {
  FILE* file = fopen(name, "re");
  CHECK(file != NULL, "fopen %s", name);
  int next[kThreads] = {0};
  char line[200];
  while (fgets(line, sizeof line, file)) {
    int who = -1, number = -1, dots = 0;
    CHECK(sscanf(line, "%d %d:%n", &who, &number, &dots) == 2 && who >= 0 && who < kThreads,
          "line %s", line);
    CHECK(seen(number) == next[who]++, "line %d of thread %d", number, who);
    CHECK((int)strspn(line + dots, ".") == number % 50 && line[dots + number % 50] == '\n',
          "it is torn: %s", line);
  }
  for (int i = 0; i < kThreads; ++i)
    CHECK(next[i] == conform.round * kLines, "%d lines of thread %d", next[i], i);
  fclose(file);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_append");
  conform_dir();
  for (int i = 0; i < kThreads; ++i)
    appended[i] = MUST(open(in_dir("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  common = MUST(open(in_dir("common"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  crew_start(kThreads, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    if (conform.round % 16 != 0 && conform.round != conform.rounds) continue;
    check(in_dir("log"));
    check(in_dir("common"));
  }
  crew_end();
  return conform_end();
}
