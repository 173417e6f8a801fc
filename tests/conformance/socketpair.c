/* covers: calls=sendto,recvfrom,read,write,shutdown,socketpair kind=forwarded; breaks-when: a Unix
   socket to a process at home loses bytes, message boundaries or its end */
#include <sys/socket.h>

#include "conform.h"

static int stream[2], packets[2];

static void echo(int in, int out) {
  (void)in, (void)out;
  close(stream[0]);
  close(packets[0]);
  static char data[20000];
  for (;;) {
    ssize_t n = recv(packets[1], data, sizeof data, 0);
    if (n <= 0) return;
    pause_ms(2);
    send(packets[1], data, (size_t)n, 0);
    if (!receive_all(stream[1], data, 10000)) return;
    for (int i = 0; i < 10000; ++i) data[i] ^= 0x55;
    send_all(stream[1], data, 10000);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "socketpair");
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream));
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets));
  conform_helper(echo);
  MUST(close(stream[1]));
  MUST(close(packets[1]));
  static char out[10000], in[20000];
  conform_ready();
  while (conform_next()) {
    size_t size = 1 + (size_t)conform.round * 37 % 9000;
    fill(out, sizeof out, (uint64_t)conform.round);
    CHECK(send(packets[0], out, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
    ssize_t got = recv(packets[0], in, sizeof in, 0);
    CHECK(seen(got) == (long long)size && memcmp(in, out, size) == 0, "a packet");
    CHECK(write(stream[0], out, sizeof out) == sizeof out, "write");
    CHECK(receive_all(stream[0], in, sizeof out), "read");
    for (size_t i = 0; i < sizeof out; ++i) CHECK((in[i] ^ out[i]) == 0x55, "byte %zu", i);
    MUST_FAIL(EAGAIN, recv(stream[0], in, 1, MSG_DONTWAIT));
    int own[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, own));
    CHECK(send(own[0], "abc", 3, 0) == 3, "send");
    CHECK(recv(own[1], in, 9, MSG_PEEK) == 3 && recv(own[1], in, 9, 0) == 3, "peek");
    MUST(shutdown(own[0], SHUT_WR));
    CHECK(recv(own[1], in, 9, 0) == 0, "the end");
    MUST(close(own[0]));
    MUST(close(own[1]));
  }
  return conform_end();
}
