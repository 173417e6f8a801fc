/* covers: calls=poll,ppoll kind=forwarded; breaks-when: poll or ppoll report other events than
   there are, too early a timeout, or miss a wake-up */
#include <poll.h>

#include "conform.h"

static void writer(int in, int out) {
  int64_t delay;
  while (receive_all(in, &delay, sizeof delay)) {
    pause_ms((int)delay);
    send_all(out, "x", 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "poll_pipe");
  struct helper helper = conform_helper(writer);
  int idle[2];
  MUST(pipe2(idle, O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    struct pollfd on[4] = {{.fd = helper.from, .events = POLLIN},
                           {.fd = idle[0], .events = POLLIN},
                           {.fd = idle[1], .events = POLLOUT},
                           {.fd = -5, .events = POLLIN}};
    int64_t start = now(CLOCK_MONOTONIC);
    struct timespec timeout = spec_of(12 * kMs);
    int ready = conform.round % 2 ? poll(on, 2, 12) : ppoll(on, 2, &timeout, NULL);
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(ready) == 0 && on[0].revents == 0 && on[1].revents == 0, "%d ready", ready);
    CHECK(took >= 12 * kMs && took < kLate, "the timeout took %lld us", (long long)took / 1000);
    CHECK(poll(on, 4, 0) == 1 && on[2].revents == POLLOUT && on[3].revents == 0, "POLLOUT");
    int64_t delay = conform.round % 9;
    CHECK(send_all(helper.to, &delay, sizeof delay), "the helper is gone");
    timeout = spec_of(kLate);
    ready = conform.round % 2 ? poll(on, 2, -1) : ppoll(on, 2, &timeout, NULL);
    CHECK(ready == 1 && on[0].revents == POLLIN && on[1].revents == 0, "POLLIN");
    char byte;
    CHECK(read(helper.from, &byte, 1) == 1 && byte == 'x', "the byte");
    // A closed writer is a hang-up, a closed descriptor is invalid.
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC));
    MUST(close(ends[1]));
    struct pollfd gone[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLIN}};
    CHECK(poll(gone, 2, -1) == 2 && gone[0].revents == POLLHUP && gone[1].revents == POLLNVAL,
          "POLLHUP and POLLNVAL");
    MUST(close(ends[0]));
  }
  return conform_end();
}
