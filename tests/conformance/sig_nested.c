/* covers: calls=clock_nanosleep,write,epoll_wait,setitimer kind=forwarded; breaks-when: a signal
   that only a running handler blocks ends a call in that handler, makes it begin anew or cuts it
   short, or does not come right after the handler */
#include <sys/epoll.h>
#include <sys/time.h>

#include "conform.h"

enum { kTimerMs = 10, kSleepMs = 50, kLateMs = 1000, kChunk = 200000 };

static volatile int ticks;
static int the_epoll;
static struct helper slow_reader;

static void on_tick(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++ticks;
}

// SIGALRM is blocked while this runs, and pending soon after it began.
static void on_user(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  static char chunk[kChunk];
  static int64_t written_so_far;
  int before = ticks;
  int64_t start = now(CLOCK_MONOTONIC);
  switch (conform.round % 3) {
    case 0: {
      struct timespec length = spec_of(kSleepMs * kMs);
      int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
      CHECK(seen(error) == 0, "the sleep gave %d", error);
      break;
    }
    case 1: {
      struct epoll_event event;
      int got = (int)syscall(SYS_epoll_wait, the_epoll, &event, 1, kSleepMs);
      CHECK(seen(got) == 0, "epoll_wait gave %d", got);
      break;
    }
    default: {
      ssize_t written = write(slow_reader.to, chunk, kChunk);
      CHECK(seen(written) == kChunk, "%zd bytes were written", written);
      written_so_far += written;
      int64_t done;
      CHECK(receive_all(slow_reader.from, &done, sizeof done) && done == written_so_far,
            "the reader");
    }
  }
  int64_t took = now(CLOCK_MONOTONIC) - start;
  CHECK(took >= kSleepMs * kMs || conform.round % 3 == 2, "it ended after %lld ms",
        (long long)(took / kMs));
  CHECK(took < (kSleepMs + kLateMs) * kMs, "it lasted %lld ms", (long long)(took / kMs));
  CHECK(ticks == before, "%d ticks in the handler that blocks them", ticks - before);
}

static void reader(int in, int out) {
  static char part[kChunk / 10];
  int64_t done = 0;
  for (;;) {
    pause_ms(4);
    if (!receive_all(in, part, sizeof part)) return;
    done += sizeof part;
    if (done % kChunk == 0 && !send_all(out, &done, sizeof done)) return;
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_nested");
  slow_reader = conform_helper(reader);
  int idle[2];
  MUST(pipe2(idle, O_CLOEXEC));
  the_epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event in = {.events = EPOLLIN};
  MUST(epoll_ctl(the_epoll, EPOLL_CTL_ADD, idle[0], &in));
  on_signal(SIGALRM, on_tick, SA_RESTART);
  struct sigaction action = {.sa_sigaction = on_user, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGALRM);
  MUST(sigaction(SIGUSR1, &action, NULL));
  struct itimerval every = {.it_interval.tv_usec = kTimerMs * 1000,
                            .it_value.tv_usec = kTimerMs * 1000};
  conform_ready();
  while (conform_next()) {
    MUST(setitimer(ITIMER_REAL, &every, NULL));
    MUST(raise(SIGUSR1));
    // It became pending in the handler, whose end delivers it before the program goes on.
    CHECK(seen(ticks > 0) == 1, "no tick");
    struct itimerval never = {0};
    MUST(setitimer(ITIMER_REAL, &never, NULL));
    ticks = 0;
  }
  return conform_end();
}
