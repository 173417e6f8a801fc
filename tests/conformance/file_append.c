/* covers: calls=write kind=forwarded; breaks-when: O_APPEND of the program and of one at
   home overwrite each other, or lines come out of order */
#include "conform.h"

static void appender(int in, int out) {
  int fd = MUST(open(in_dir("log"), O_WRONLY | O_APPEND | O_CLOEXEC));
  char line[64];
  int64_t count;
  int64_t total = 0;
  while (receive_all(in, &count, sizeof count)) {
    send_all(out, &count, sizeof count);
    for (int i = 0; i < count; ++i) {
      int size = snprintf(line, sizeof line, "B %lld\n", (long long)total++);
      if (write(fd, line, (size_t)size) != size) _exit(1);
    }
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_append");
  conform_dir();
  int fd = MUST(open(in_dir("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  struct helper helper = conform_helper(appender);
  conform_ready();
  char line[64];
  int mine = 0, theirs = 0;
  while (conform_next()) {
    // It answers first and then writes, so that both write at once.
    ask(&helper, 7);
    theirs += 7;
    for (int i = 0; i < 7; ++i) {
      int size = snprintf(line, sizeof line, "A %d\n", mine++);
      CHECK(write(fd, line, (size_t)size) == size, "write");
    }
    CHECK(lseek(fd, 0, SEEK_SET) == 0, "seek");
  }
  ask(&helper, 0);
  FILE* log = fopen(in_dir("log"), "r");
  int a = 0, b = 0;
  while (fgets(line, sizeof line, log)) {
    int number = atoi(line + 2);
    if (line[0] == 'A')
      CHECK(seen(number) == a++, "line A %d", number);
    else
      CHECK(line[0] == 'B' && number == b++, "line %s", line);
  }
  fclose(log);
  CHECK(a == mine && b == theirs, "%d and %d lines, not %d and %d", a, b, mine, theirs);
  return conform_end();
}
