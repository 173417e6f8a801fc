/* covers: calls=inotify_init1,inotify_add_watch,inotify_rm_watch,read kind=forwarded; breaks-when:
   changes made at home are not reported, or with another name or mask */
#include <sys/inotify.h>

#include "conform.h"

static void maker(int in, int out) {
  int64_t number;
  char name[40];
  while (receive_all(in, &number, sizeof number)) {
    pause_ms((int)(number % 5));
    snprintf(name, sizeof name, "file%lld", (long long)number);
    close(open(in_dir(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    unlink(in_dir(name));
    send_all(out, &number, sizeof number);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "inotify");
  conform_dir();
  struct helper helper = conform_helper(maker);
  conform_ready();
  while (conform_next()) {
    int fd = MUST(inotify_init1(IN_CLOEXEC));
    int watch = MUST(inotify_add_watch(fd, conform.dir, IN_CREATE | IN_DELETE));
    int64_t number = conform.round;
    CHECK(send_all(helper.to, &number, sizeof number), "the helper is gone");
    char name[40], buffer[4096] __attribute__((aligned(8)));
    snprintf(name, sizeof name, "file%d", conform.round);
    uint32_t masks[2] = {0};
    for (int events = 0; events < 2;) {
      ssize_t size = read(fd, buffer, sizeof buffer);
      CHECK(size > 0, "read");
      for (char* at = buffer; at < buffer + size;) {
        struct inotify_event* event = (struct inotify_event*)at;
        CHECK(event->wd == watch && strcmp(event->name, name) == 0, "name %s", event->name);
        CHECK(events < 2, "an event too many");
        masks[events++] = event->mask;
        at += sizeof *event + event->len;
      }
    }
    CHECK(seen(masks[0]) == IN_CREATE && masks[1] == IN_DELETE, "masks");
    CHECK(receive_all(helper.from, &number, sizeof number), "the helper is gone");
    MUST(inotify_rm_watch(fd, watch));
    MUST(close(fd));
  }
  return conform_end();
}
