/* covers: calls=recvfrom,sendto kind=forwarded; breaks-when: a move shows as EINTR on a socket that
   has a limit of time, or as a part of what MSG_WAITALL asked for */
#include <sys/socket.h>
#include <sys/time.h>

#include "conform.h"

enum { kLimitMs = 100, kChunk = 100000 };

static int limited[2], stream[2];

static void sender(int in, int out) {
  (void)out;
  static char part[kChunk / 10];
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    for (int i = 0; i < 10; ++i) {
      pause_ms(5);
      for (size_t done = 0; done < sizeof part;) {
        ssize_t n = send(stream[1], part + done, sizeof part - done, 0);
        if (n <= 0) _exit(1);
        done += (size_t)n;
      }
    }
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sock_limit");
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, limited));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
  struct helper helper = conform_helper(sender);
  struct timeval limit = {.tv_usec = kLimitMs * 1000};
  MUST(setsockopt(limited[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
  MUST(setsockopt(limited[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
  static char chunk[kChunk];
  while (send(limited[0], chunk, sizeof chunk, MSG_DONTWAIT) > 0) {
  }
  conform_ready();
  while (conform_next()) {
    int64_t start = now(CLOCK_MONOTONIC);
    ssize_t got = conform.round % 2 == 0 ? recv(limited[0], chunk, 1, 0)
                                         : send(limited[0], chunk, sizeof chunk, 0);
    CHECK(seen(got) == -1 && errno == EAGAIN, "the limit gave %zd", got);
    CHECK(now(CLOCK_MONOTONIC) - start >= kLimitMs * kMs, "the limit came early");
    int64_t question = 1;
    CHECK(send_all(helper.to, &question, sizeof question), "the helper");
    got = recv(stream[0], chunk, sizeof chunk, MSG_WAITALL);
    CHECK(seen(got) == sizeof chunk, "%zd bytes of %zu", got, sizeof chunk);
  }
  return conform_end();
}
