/* covers: calls=select,pselect6 kind=forwarded; breaks-when: select or pselect mark the wrong
   descriptors, time out early, or miss a wake-up */
#include <sys/select.h>
#include <sys/time.h>

#include "conform.h"

static void writer(int in, int out) {
  int64_t delay;
  while (receive_all(in, &delay, sizeof delay)) {
    pause_ms((int)delay);
    send_all(out, "x", 1);
  }
}

// The system call select itself, which writes the rest of the time back; the C library calls
// pselect6.
static int plain_select(int count, fd_set* read_set, fd_set* write_set, int64_t* left_ns) {
  struct timeval left = {.tv_sec = *left_ns / kSecond, .tv_usec = *left_ns % kSecond / 1000};
  int ready = (int)syscall(SYS_select, count, read_set, write_set, NULL, &left);
  *left_ns = left.tv_sec * kSecond + left.tv_usec * 1000;
  return ready;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "select_pipe");
  struct helper helper = conform_helper(writer);
  int idle[2];
  MUST(pipe2(idle, O_CLOEXEC));
  // A descriptor beyond the first word of the set.
  int high = MUST(fcntl(idle[0], F_DUPFD_CLOEXEC, 130));
  conform_ready();
  while (conform_next()) {
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_SET(helper.from, &readable);
    FD_SET(high, &readable);
    int64_t start = now(CLOCK_MONOTONIC), left = 12 * kMs;
    struct timespec timeout = spec_of(left);
    int ready = conform.round % 2 ? plain_select(high + 1, &readable, NULL, &left)
                                  : pselect(high + 1, &readable, NULL, NULL, &timeout, NULL);
    int64_t took = now(CLOCK_MONOTONIC) - start;
    CHECK(seen(ready) == 0 && !FD_ISSET(helper.from, &readable) && !FD_ISSET(high, &readable),
          "%d ready", ready);
    CHECK(took >= 12 * kMs && took < kLate, "the timeout took %lld us", (long long)took / 1000);
    CHECK(conform.round % 2 == 0 || left == 0, "rest of the time after a timeout");

    int64_t delay = conform.round % 9;
    CHECK(send_all(helper.to, &delay, sizeof delay), "the helper is gone");
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(helper.from, &readable);
    FD_SET(high, &readable);
    left = kLate;
    timeout = spec_of(left);
    ready = conform.round % 2 ? plain_select(high + 1, &readable, &writable, &left)
                              : pselect(high + 1, &readable, &writable, NULL, &timeout, NULL);
    CHECK(ready == 1 && FD_ISSET(helper.from, &readable) && !FD_ISSET(high, &readable),
          "the wrong descriptor");
    CHECK(conform.round % 2 == 0 || (left > 0 && left < kLate), "rest of the time");
    char byte;
    CHECK(read(helper.from, &byte, 1) == 1 && byte == 'x', "the byte");

    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(high, &readable);
    FD_SET(idle[1], &writable);
    CHECK(select(high + 1, &readable, &writable, NULL, NULL) == 1 && FD_ISSET(idle[1], &writable) &&
              !FD_ISSET(high, &readable),
          "a writable pipe");
    FD_SET(high - 1, &readable);
    MUST_FAIL(EBADF, select(high + 1, &readable, NULL, NULL, NULL));
  }
  return conform_end();
}
