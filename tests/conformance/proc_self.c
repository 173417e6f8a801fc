/* covers: calls=openat,prctl kind=either; calls=readlink kind=forwarded; moves=away; breaks-when:
   /proc/self is another process, or the name the program gives itself is not seen at home */
#include "conform.h"

static void read_file(const char* path, char* text, size_t size) {
  int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
  ssize_t n = MUST(read(fd, text, size - 1));
  text[n] = 0;
  MUST(close(fd));
}

// Compares the comm of the main process, seen from home, with "name<number>".
static void looker(int in, int out) {
  int64_t number;
  char path[60], text[60], wanted[60];
  snprintf(path, sizeof path, "/proc/%d/comm", (int)conform.pid);
  while (receive_all(in, &number, sizeof number)) {
    read_file(path, text, sizeof text);
    snprintf(wanted, sizeof wanted, "name%lld\n", (long long)number);
    number = strcmp(text, wanted) == 0;
    send_all(out, &number, sizeof number);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_self");
  struct helper helper = conform_helper(looker);
  char exe[PATH_MAX] = {0}, text[PATH_MAX], wanted[60];
  MUST(readlink("/proc/self/exe", exe, sizeof exe - 1));
  conform_ready();
  while (conform_next()) {
    ssize_t n = MUST(readlink("/proc/self", text, sizeof text - 1));
    text[n] = 0;
    CHECK(seen(atoi(text)) == conform.pid, "/proc/self is %s", text);
    n = MUST(readlink("/proc/self/exe", text, sizeof text - 1));
    text[n] = 0;
    CHECK(strcmp(text, exe) == 0, "/proc/self/exe is %s", text);
    snprintf(wanted, sizeof wanted, "name%d", conform.round);
    MUST(prctl(PR_SET_NAME, wanted));
    char name[17] = {0};
    MUST(prctl(PR_GET_NAME, name));
    CHECK(strcmp(name, wanted) == 0, "PR_GET_NAME gave %s", name);
    CHECK(ask(&helper, conform.round) == 1, "home sees another name");
    read_file("/proc/self/stat", text, sizeof text);
    CHECK(atoi(text) == conform.pid, "/proc/self/stat");
    read_file("/proc/self/cmdline", text, sizeof text);
    CHECK(strcmp(text, argv[0]) == 0, "/proc/self/cmdline is %s", text);
  }
  return conform_end();
}
