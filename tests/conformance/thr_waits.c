/* covers: calls=poll,epoll_wait,clock_nanosleep,read,accept,select,recvfrom,flock,rt_sigtimedwait
   kind=forwarded; calls=futex kind=local; breaks-when: one of several threads that are blocked in
   different calls does not go on when it should, goes on before, or gets another result */
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "threads.h"

enum { kEveryRounds = 8, kSleepMs = 100 };

static int polled[2], selected[2], watched[2], piped[2], pair[2];
static int the_epoll, listener, locked, other;
static sem_t posted;
static struct sockaddr_un place = {.sun_family = AF_UNIX};
static atomic_bool released;

static void by_poll(char expected) {
  char byte;
  struct pollfd fd = {.fd = polled[0], .events = POLLIN};
  CHECK(seen(poll(&fd, 1, -1)) == 1 && fd.revents == POLLIN, "poll");
  CHECK(read(polled[0], &byte, 1) == 1 && byte == expected, "read after poll");
}
static void by_select(char expected) {
  char byte;
  fd_set set;
  FD_ZERO(&set);
  FD_SET(selected[0], &set);
  int got = (int)syscall(SYS_select, selected[0] + 1, &set, NULL, NULL, NULL);
  CHECK(seen(got) == 1 && FD_ISSET(selected[0], &set), "select gave %d", got);
  CHECK(read(selected[0], &byte, 1) == 1 && byte == expected, "read after select");
}
static void by_epoll(char expected) {
  char byte;
  struct epoll_event event;
  int got;
  // A stop may end this wait early even at home (signal(7)); see eintr_quiet.c.
  do {
    got = (int)syscall(SYS_epoll_wait, the_epoll, &event, 1, -1);
  } while (got < 0 && errno == EINTR);
  CHECK(seen(got) == 1 && event.data.u32 == 1234, "epoll_wait gave %d", got);
  CHECK(read(watched[0], &byte, 1) == 1 && byte == expected, "read after epoll_wait");
}
static void by_read(char expected) {
  char byte;
  ssize_t got = read(piped[0], &byte, 1);
  CHECK(seen(got) == 1 && byte == expected, "read gave %zd", got);
}
static void by_receive(char expected) {
  char byte;
  ssize_t got = recv(pair[0], &byte, 1, 0);
  CHECK(seen(got) == 1 && byte == expected, "recv gave %zd", got);
}
static void by_accept(char expected) {
  char byte;
  int fd = MUST(accept(listener, NULL, NULL));
  CHECK(read(fd, &byte, 1) == 1 && byte == expected, "read after accept");
  MUST(close(fd));
}
static void by_lock(char expected) {
  (void)expected;
  MUST(flock(other, LOCK_EX));
  MUST(flock(other, LOCK_UN));
}
static void by_futex(char expected) {
  (void)expected;
  MUST(sem_wait(&posted));
}
static void by_signal(char expected) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  siginfo_t info;
  int got;
  do {
    got = sigwaitinfo(&set, &info);
  } while (got < 0 && errno == EINTR);
  CHECK(got == SIGRTMIN && info.si_value.sival_int == expected, "sigwaitinfo gave %d", got);
}

static void (*const kWaits[])(char) = {by_poll,   by_select, by_epoll, by_read,  by_receive,
                                       by_accept, by_lock,   by_futex, by_signal};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

static void part(int who, int round) {
  if (who < kKinds) {
    kWaits[who]((char)round);
    CHECK(atomic_load(&released), "wait %d was over before", who);
    return;
  }
  // One sleeps meanwhile, for a certain time.
  struct timespec length = spec_of(kSleepMs * kMs);
  int64_t start = now(CLOCK_MONOTONIC);
  int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &length);
  int64_t took = now(CLOCK_MONOTONIC) - start;
  CHECK(seen(error) == 0, "the sleep gave %d", error);
  CHECK(took >= kSleepMs * kMs && took < kLate, "it lasted %lld ms", (long long)(took / kMs));
}

static void put(int fd, char byte) { CHECK(write(fd, &byte, 1) == 1, "write"); }

static void release_all(char byte) {
  atomic_store(&released, true);
  put(polled[1], byte);
  put(selected[1], byte);
  put(watched[1], byte);
  put(piped[1], byte);
  put(pair[1], byte);
  int fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  MUST(connect(fd, (struct sockaddr*)&place, sizeof place));
  put(fd, byte);
  MUST(close(fd));
  MUST(flock(locked, LOCK_UN));
  MUST(sem_post(&posted));
  MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = byte}));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_waits");
  conform_dir();
  MUST(pipe2(polled, O_CLOEXEC));
  MUST(pipe2(selected, O_CLOEXEC));
  MUST(pipe2(watched, O_CLOEXEC));
  MUST(pipe2(piped, O_CLOEXEC));
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  the_epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 1234};
  MUST(epoll_ctl(the_epoll, EPOLL_CTL_ADD, watched[0], &event));
  snprintf(place.sun_path, sizeof place.sun_path, "%s", in_dir("socket"));
  listener = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  MUST(bind(listener, (struct sockaddr*)&place, sizeof place));
  MUST(listen(listener, 4));
  locked = MUST(open(in_dir("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  other = MUST(open(in_dir("lock"), O_RDWR | O_CLOEXEC));
  MUST(sem_init(&posted, 0, 0));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  crew_start(kKinds + 1, part);
  conform_ready();
  while (conform_next()) {
    // They are blocked for some rounds, and then go on all at once.
    if (conform.round % kEveryRounds == 1 && conform.round + kEveryRounds <= conform.rounds + 1) {
      atomic_store(&released, false);
      MUST(flock(locked, LOCK_EX));
      crew_begin();
    } else if (conform.round % kEveryRounds == 0) {
      release_all((char)(conform.round + 1 - kEveryRounds));
      crew_finish();
    }
  }
  crew_end();
  return conform_end();
}
