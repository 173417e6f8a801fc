/* covers: calls=epoll_create1,epoll_ctl,epoll_wait,epoll_pwait kind=forwarded; breaks-when: epoll
   reports other events or data than were asked for, or misses an edge */
#include <sys/epoll.h>

#include "conform.h"

static void writer(int in, int out) {
  int64_t delay;
  while (receive_all(in, &delay, sizeof delay)) {
    pause_ms((int)delay);
    send_all(out, "xy", 2);
  }
}

// A stop and a continuation may end this wait early even at home (signal(7)); see eintr_quiet.c.
static int wait_for(int epoll, struct epoll_event* events, int ms) {
  int ready;
  do {
    ready = conform.round % 2 ? epoll_wait(epoll, events, 4, ms)
                              : epoll_pwait(epoll, events, 4, ms, NULL);
  } while (ready < 0 && errno == EINTR);
  return ready;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "epoll");
  struct helper helper = conform_helper(writer);
  int idle[2];
  MUST(pipe2(idle, O_CLOEXEC));
  int epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event in = {.events = EPOLLIN, .data.u64 = 0x1234567890abcdefULL};
  MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, helper.from, &in));
  conform_ready();
  while (conform_next()) {
    struct epoll_event events[4];
    CHECK(wait_for(epoll, events, 8) == 0, "an event too many");
    int64_t delay = conform.round % 9;
    CHECK(send_all(helper.to, &delay, sizeof delay), "the helper is gone");
    CHECK(wait_for(epoll, events, -1) == 1, "no event");
    CHECK(
        seen((long long)events[0].data.u64) == 0x1234567890abcdefLL && events[0].events == EPOLLIN,
        "the event");
    char byte;
    CHECK(read(helper.from, &byte, 1) == 1 && byte == 'x', "the byte");
    CHECK(wait_for(epoll, events, -1) == 1, "a level is reported again");
    CHECK(read(helper.from, &byte, 1) == 1 && byte == 'y', "the byte");

    struct epoll_event edge = {.events = EPOLLOUT | EPOLLET, .data.u64 = (uint64_t)conform.round};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, idle[1], &edge));
    MUST_FAIL(EEXIST, epoll_ctl(epoll, EPOLL_CTL_ADD, idle[1], &edge));
    CHECK(wait_for(epoll, events, -1) == 1 && events[0].data.u64 == (uint64_t)conform.round,
          "an edge");
    CHECK(wait_for(epoll, events, 0) == 0, "an edge is reported once");
    MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, idle[1], NULL));
    int second = MUST(epoll_create1(0));
    MUST(close(second));
  }
  return conform_end();
}
