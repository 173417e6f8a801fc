// rtorder HOW: is sent realtime signals of several numbers by rtsender, and checks that those of
// each number come in order, none lost, none twice. Ends at SIGUSR1.
//
// HOW it takes them: handler (at any moment), blocked (only now and then, many at once), waited (by
// sigtimedwait), thread (in one of four threads, which the others make wait for locks).
// Lines: "NUMBER TAKEN" every 20 ms, and in the end "end LINES"; "wrong ..." if something is.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kNumbers = 6 };

static volatile sig_atomic_t over;
static volatile unsigned expected[kNumbers];
static volatile unsigned long taken;
static sigset_t ours, usr1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say(const char* text, int length) {
  if (write(STDOUT_FILENO, text, (size_t)length) != length) _exit(3);
}

static void take(const siginfo_t* info) {
  const int which = info->si_signo - SIGRTMIN;
  const unsigned value = (unsigned)info->si_value.sival_int;
  if (value != expected[which]) {
    char line[96];
    say(line, snprintf(line, sizeof line, "wrong: SIGRTMIN+%d brings %u, not %u\n", which, value,
                       expected[which]));
    _exit(1);
  }
  ++expected[which];
  ++taken;
}

static void on_signal(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  take(info);
}

static void on_usr1(int number) {
  (void)number;
  over = 1;
}

static void pause_us(long us) {
  const struct timespec t = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&t, NULL);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void take_some(const char* how) {
  if (strcmp(how, "blocked") == 0) {
    pause_us(3000);
    sigprocmask(SIG_UNBLOCK, &ours, NULL);
    sigprocmask(SIG_BLOCK, &ours, NULL);
  } else if (strcmp(how, "waited") == 0) {
    siginfo_t info;
    const struct timespec limit = {0, 5000000};
    for (int i = 0; i < 20 && !over && sigtimedwait(&ours, &info, &limit) > 0; ++i) take(&info);
  } else {
    pause_us(2000);
  }
}

static void* work(void* none) {
  for (volatile unsigned n = 0;; ++n) {
    pthread_mutex_lock(&lock);
    if (n % 64 == 0) pause_us(200);
    pthread_mutex_unlock(&lock);
  }
  return none;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  sigemptyset(&ours);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  for (int i = 0; i < kNumbers; ++i) {
    sigaddset(&ours, SIGRTMIN + i);
    sigaddset(&action.sa_mask, SIGRTMIN + i);
  }
  for (int i = 0; i < kNumbers; ++i) sigaction(SIGRTMIN + i, &action, NULL);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_usr1, .sa_flags = SA_RESTART}, NULL);
  sigprocmask(SIG_BLOCK, &ours, NULL);
  if (strcmp(argv[1], "thread") == 0) {
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    for (int i = 0; i < 3; ++i) {
      pthread_t thread;
      pthread_create(&thread, NULL, work, NULL);
    }
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
  }
  const int always = strcmp(argv[1], "handler") == 0 || strcmp(argv[1], "thread") == 0;
  if (always) sigprocmask(SIG_UNBLOCK, &ours, NULL);

  unsigned lines = 0;
  for (double next = 0; !over;) {
    take_some(argv[1]);
    if (now() < next) continue;
    next = now() + 0.02;
    char line[64];
    say(line, snprintf(line, sizeof line, "%u %lu\n", lines, taken));
    ++lines;
  }
  char line[64];
  say(line, snprintf(line, sizeof line, "end %u\n", lines));
  return 0;
}
