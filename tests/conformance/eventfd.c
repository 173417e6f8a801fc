/* covers: calls=eventfd2,read,write kind=forwarded; breaks-when: an eventfd's count, its semaphore
   form or its blocking differ, also as seen from home */
#include <sys/eventfd.h>

#include "conform.h"

static int shared;

static void adder(int in, int out) {
  int64_t amount;
  while (receive_all(in, &amount, sizeof amount)) {
    pause_ms(2);
    if (write(shared, &amount, sizeof amount) != sizeof amount) return;
    send_all(out, &amount, sizeof amount);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "eventfd");
  shared = MUST(eventfd(0, EFD_CLOEXEC));
  struct helper helper = conform_helper(adder);
  int semaphore = MUST(eventfd(5, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    int64_t amount = conform.round, count = 0;
    CHECK(send_all(helper.to, &amount, sizeof amount), "the helper is gone");
    CHECK(read(shared, &count, sizeof count) == sizeof count, "a blocking read");
    CHECK(seen(count) == amount, "count %lld", (long long)count);
    CHECK(receive_all(helper.from, &amount, sizeof amount), "the helper is gone");
    ask(&helper, 3);
    ask(&helper, 4);
    CHECK(read(shared, &count, sizeof count) == sizeof count && count == 7, "a sum");
    for (int i = 0; i < 5; ++i)
      CHECK(read(semaphore, &count, sizeof count) == sizeof count && count == 1, "a semaphore");
    MUST_FAIL(EAGAIN, read(semaphore, &count, sizeof count));
    count = 5;
    CHECK(write(semaphore, &count, sizeof count) == sizeof count, "write");
    int fresh = MUST(eventfd(9, EFD_NONBLOCK));
    CHECK(read(fresh, &count, sizeof count) == sizeof count && count == 9, "a new one");
    MUST_FAIL(EINVAL, read(fresh, &count, 4));
    MUST(close(fresh));
  }
  return conform_end();
}
