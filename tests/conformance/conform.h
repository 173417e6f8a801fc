// The frame that every conformance program stands in: rounds, checks, helpers that stay at home.
//
// A program is moved between nodes at any moment, inside any call; it must print the same lines and
// end the same way as one that never moved. See README.md.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kPage = 4096, kMaxHelpers = 4 };

static const int64_t kMs = 1000000;
static const int64_t kSecond = 1000000000;
// How late anything may be. Generous: the machine is loaded and moves cost time; a clock that is
// wrong by the difference of two nodes' uptimes (minutes) is still found.
static const int64_t kLate = 20 * 1000000000LL;

static struct {
  const char* name;
  int rounds;
  int round;   // the one that runs now, from 1
  int broken;  // 1 under CONFORM_BREAK: seen() spoils what was observed
  pid_t pid;
  int helpers;
  pid_t helper[kMaxHelpers];
  char dir[PATH_MAX / 2];
} conform;

// A child, forked before READY, that is never moved.
struct helper {
  pid_t pid;
  int to;    // write here what it reads from its `in`
  int from;  // read here what it writes to its `out`
};

static inline int conform_remove(const char* path, const struct stat* st, int type,
                                 struct FTW* where) {
  (void)st, (void)type, (void)where;
  return remove(path);
}

static inline void conform_clean(void) {
  if (getpid() != conform.pid) return;
  for (int i = 0; i < conform.helpers; ++i) {
    kill(conform.helper[i], SIGKILL);
    waitpid(conform.helper[i], NULL, 0);
  }
  conform.helpers = 0;
  if (conform.dir[0]) nftw(conform.dir, conform_remove, 8, FTW_DEPTH | FTW_PHYS);
  conform.dir[0] = 0;
}

__attribute__((format(printf, 2, 3), noreturn)) static inline void conform_fail(int line,
                                                                                const char* what,
                                                                                ...) {
  int error = errno;
  // Of several threads the first one says why; the others wait for the end.
  static pid_t failing;
  pid_t nobody = 0, me = gettid();
  if (!__atomic_compare_exchange_n(&failing, &nobody, me, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST) &&
      nobody != me)
    for (;;) pause();
  va_list args;
  va_start(args, what);
  printf("FAIL ");
  vprintf(what, args);
  va_end(args);
  printf(" (line %d, round %d, errno %d)\n", line, conform.round, error);
  fflush(stdout);
  conform_clean();
  _exit(1);
}

// Ends the program with FAIL and a message unless the condition holds.
#define CHECK(condition, ...)                              \
  do {                                                     \
    if (!(condition)) conform_fail(__LINE__, __VA_ARGS__); \
  } while (0)

// For a call that must not return -1; yields its result.
#define MUST(call)                                                                       \
  ({                                                                                     \
    __typeof__(call) must_result = (call);                                               \
    if (must_result == (__typeof__(must_result))-1) conform_fail(__LINE__, "%s", #call); \
    must_result;                                                                         \
  })

// For a call that must return -1 with this errno.
#define MUST_FAIL(error, call)                                                       \
  do {                                                                               \
    errno = 0;                                                                       \
    long long refused_result = (long long)(call);                                    \
    if (refused_result != -1 || errno != (error))                                    \
      conform_fail(__LINE__, "%s gave %lld, not %s", #call, refused_result, #error); \
  } while (0)

// What the program observed of the feature under test; with CONFORM_BREAK it is spoiled, which
// shows that the check around it can fail.
static inline long long seen(long long value) { return value ^ conform.broken; }

static inline int64_t ns_of(struct timespec t) { return t.tv_sec * kSecond + t.tv_nsec; }
static inline struct timespec spec_of(int64_t ns) {
  return (struct timespec){.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond};
}
static inline int64_t now(clockid_t clock) {
  struct timespec t;
  MUST(clock_gettime(clock, &t));
  return ns_of(t);
}

// Sleeps at least so long, whatever signals arrive.
static inline void pause_ms(int ms) {
  struct timespec left = spec_of(ms * kMs);
  int error;
  do {
    error = clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left);
  } while (error == EINTR);
  CHECK(error == 0, "clock_nanosleep gave %d", error);
}

// Burns CPU without any system call, so that a move meets the program in user code.
static inline void spin_ms(int ms) {
  int64_t end = now(CLOCK_MONOTONIC) + ms * kMs;
  while (now(CLOCK_MONOTONIC) < end) {
  }
}

// xorshift64*: the same numbers in every run.
static inline uint64_t next_random(uint64_t* state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1dULL;
}

// The byte that belongs at `index` of the pattern `seed`.
static inline unsigned char pattern(uint64_t seed, uint64_t index) {
  return (unsigned char)((seed * 0x9e3779b97f4a7c15ULL + index * 0xbf58476d1ce4e5b9ULL) >> 37);
}
static inline void fill(void* at, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size; ++i) ((unsigned char*)at)[i] = pattern(seed, i);
}
static inline bool filled(const void* at, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size; ++i)
    if (((const unsigned char*)at)[i] != pattern(seed, i)) return false;
  return true;
}
static inline bool zeroed(const void* at, size_t size) {
  for (size_t i = 0; i < size; ++i)
    if (((const unsigned char*)at)[i] != 0) return false;
  return true;
}

// Reads --rounds N and --pidfile PATH; other arguments are the program's own.
static inline void conform_begin(int argc, char** argv, const char* name) {
  static char buffer[BUFSIZ];
  setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
  conform.name = name;
  conform.rounds = 40;
  conform.pid = getpid();
  conform.broken = getenv("CONFORM_BREAK") != NULL;
  for (int i = 1; i + 1 < argc; ++i) {
    if (strcmp(argv[i], "--rounds") == 0) conform.rounds = atoi(argv[i + 1]);
    if (strcmp(argv[i], "--pidfile") == 0) {
      FILE* file = fopen(argv[i + 1], "w");
      CHECK(file != NULL, "pid file %s", argv[i + 1]);
      fprintf(file, "%d\n", (int)conform.pid);
      fclose(file);
    }
  }
}

// A fresh directory, removed at the end; returns its path.
static inline const char* conform_dir(void) {
  const char* base = getenv("TMPDIR");
  snprintf(conform.dir, sizeof conform.dir, "%s/conform.XXXXXX", base ? base : "/tmp");
  CHECK(mkdtemp(conform.dir) != NULL, "mkdtemp %s", conform.dir);
  return conform.dir;
}

// The path of a name in that directory. Valid until the fourth call from now.
static inline const char* in_dir(const char* name) {
  static char path[4][PATH_MAX];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", conform.dir, name);
  return path[turn];
}

// Moves whole objects through pipes; false at the end of the stream.
static inline bool send_all(int fd, const void* data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = write(fd, (const char*)data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}
static inline bool receive_all(int fd, void* data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = read(fd, (char*)data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

// Forks a helper that runs `body`; call before conform_ready().
static inline struct helper conform_helper(void (*body)(int in, int out)) {
  int to[2], from[2];
  MUST(pipe2(to, O_CLOEXEC));
  MUST(pipe2(from, O_CLOEXEC));
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != conform.pid) _exit(1);
    close(to[1]);
    close(from[0]);
    body(to[0], from[1]);
    _exit(0);
  }
  close(to[0]);
  close(from[1]);
  if (conform.helpers < kMaxHelpers) conform.helper[conform.helpers++] = child;
  return (struct helper){.pid = child, .to = to[1], .from = from[0]};
}

// Sends the helper one number and returns the number that it answers.
static inline int64_t ask(struct helper* helper, int64_t question) {
  int64_t answer = 0;
  CHECK(send_all(helper->to, &question, sizeof question), "the helper is gone");
  CHECK(receive_all(helper->from, &answer, sizeof answer), "the helper is gone");
  return answer;
}

// From here on the program may be moved.
static inline void conform_ready(void) { printf("READY\n"); }

// Starts the next round, if there is one: says so and gives a move time to come in between.
static inline bool conform_next(void) {
  if (conform.round == conform.rounds) return false;
  ++conform.round;
  printf("round %d\n", conform.round);
  pause_ms(8 + conform.round % 8);
  return true;
}

// The last line that every program prints; for those that do not end by conform_end().
static inline void conform_ok(void) {
  printf("ok %s\n", conform.name);
  fflush(stdout);
  conform_clean();
}

static inline int conform_end(void) {
  conform_ok();
  return 0;
}

// Installs a handler; flags as for sigaction.
static inline void on_signal(int signo, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  MUST(sigaction(signo, &action, NULL));
}
