// computes DIR [threads=N] [ballast=MB] [pause=MS] [sleep=MS,MS]: computes, with a pause now and
// then, and does nothing that others could tell, until DIR/go exists. Then it checks what it has
// computed, appends one line to DIR/done and ends: "STEPS PENDING MS", the steps of all threads,
// whether SIGUSR2 waits for it, and for how long it has run.
//
// With sleep= it sleeps for the first time before it looks for DIR/go, and for the second time
// each time it finds none. If one of these exists, it does what it says, once: DIR/write (appends
// a byte to DIR/effects), DIR/thread (starts one and waits for its end), DIR/declare (changes its
// mask and its action for two signals). SIGUSR1 is handled, SIGUSR2 blocked from the start.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 16, STEPS_IN_A_TURN = 1 << 16 };

// The generator of Knuth's MMIX.
static const uint64_t kFactor = 6364136223846793005u;
static const uint64_t kAddend = 1442695040888963407u;

struct worker {
  pthread_t thread;
  uint64_t chain;
  uint64_t steps;
  pthread_mutex_t lock;  // held while the two do not belong together
};

static struct worker workers[MOST_THREADS];
static volatile int stop;
static long pause_of_turn = 3;  // ms
static char directory[256];

static void on_usr1(int number) { (void)number; }

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void pause_ms(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static void turn(struct worker* w) {
  pthread_mutex_lock(&w->lock);
  for (int i = 0; i < STEPS_IN_A_TURN; ++i) w->chain = w->chain * kFactor + kAddend;
  w->steps += STEPS_IN_A_TURN;
  pthread_mutex_unlock(&w->lock);
  if (pause_of_turn > 0) pause_ms(pause_of_turn);
}

static void* work(void* arg) {
  while (!stop) turn(arg);
  return NULL;
}

static void* nothing(void* arg) { return arg; }

/// What the chain is after so many steps, by way of the steps' binary digits.
static uint64_t chain_after(uint64_t chain, uint64_t steps) {
  uint64_t factor = kFactor, addend = kAddend;
  for (; steps != 0; steps >>= 1) {
    if (steps & 1) chain = chain * factor + addend;
    addend = addend * factor + addend;
    factor *= factor;
  }
  return chain;
}

static const char* in_directory(const char* name) {
  static char path[300];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return path;
}

/// Whether it is wanted, and is not done yet.
static int is_wanted(const char* name, int* done) {
  return !*done && access(in_directory(name), F_OK) == 0 && (*done = 1);
}

static void obey(int effects) {
  static int written, declared, started;
  if (is_wanted("write", &written) && write(effects, "x", 1) != 1) _exit(3);
  if (is_wanted("thread", &started)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) != 0) _exit(4);
    pthread_join(thread, NULL);
  }
  if (is_wanted("declare", &declared)) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    signal(SIGHUP, on_usr1);
  }
}

static size_t option(int argc, char** argv, const char* name, size_t or_else) {
  for (int i = 2; i < argc; ++i)
    if (strncmp(argv[i], name, strlen(name)) == 0) return (size_t)atol(argv[i] + strlen(name));
  return or_else;
}

static int check(const uint64_t* ballast, size_t words, size_t threads) {
  for (size_t i = 0; i < words; ++i)
    if (ballast[i] != i * 2654435761u + 1) return 6;
  for (size_t i = 0; i < threads; ++i)
    if (workers[i].chain != chain_after(i, workers[i].steps)) return 7;
  return 0;
}

int main(int argc, char** argv) {
  const double began = now_ms();
  snprintf(directory, sizeof directory, "%s", argv[1]);
  const size_t threads = option(argc, argv, "threads=", 1);
  const size_t words = option(argc, argv, "ballast=", 1) * (1024 * 1024 / sizeof(uint64_t));
  long first_sleep = 0, next_sleep = 0;
  for (int i = 2; i < argc; ++i) sscanf(argv[i], "sleep=%ld,%ld", &first_sleep, &next_sleep);
  pause_of_turn = (long)option(argc, argv, "pause=", 3);
  uint64_t* ballast = calloc(words, sizeof *ballast);
  for (size_t i = 0; i < words; ++i) ballast[i] = i * 2654435761u + 1;
  const int effects = open(in_directory("effects"), O_WRONLY | O_CREAT | O_APPEND, 0644);
  signal(SIGUSR1, on_usr1);
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  sigprocmask(SIG_BLOCK, &usr2, NULL);
  for (size_t i = 0; i < threads; ++i) {
    workers[i].chain = i;
    pthread_mutex_init(&workers[i].lock, NULL);
    if (i > 0 && pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 2;
  }

  if (first_sleep > 0) pause_ms(first_sleep);
  while (access(in_directory("go"), F_OK) != 0) {
    if (next_sleep > 0)
      pause_ms(next_sleep);
    else
      turn(&workers[0]);
    obey(effects);
  }
  stop = 1;
  uint64_t steps = workers[0].steps;
  for (size_t i = 1; i < threads; ++i) {
    pthread_join(workers[i].thread, NULL);
    steps += workers[i].steps;
  }
  const int wrong = check(ballast, words, threads);
  if (wrong) return wrong;
  sigset_t pending;
  sigpending(&pending);
  char line[128];
  const int length = snprintf(line, sizeof line, "%lu %d %.0f\n", steps,
                              sigismember(&pending, SIGUSR2), now_ms() - began);
  const int done = open(in_directory("done"), O_WRONLY | O_CREAT | O_APPEND, 0644);
  return write(done, line, (size_t)length) == length ? 0 : 5;
}
