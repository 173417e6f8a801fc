// hammer: sixteen threads at work on each other until SIGUSR1, then "end" and how many lines.
//
// They move amounts between accounts under two mutexes each, hand each other blocks of memory
// through a queue with condition variables, send each other signals by tgkill, and speak with home
// through pipes of their own. What they find to be wrong they say in a line, and end by 1; so does
// a thread that stands still. EVERY_MS is the pause between two lines.
// Lines: "NUMBER DONE", where DONE is how much all have done so far.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  kThreads = 16,
  kAccounts = 24,
  kStart = 1000,
  kPlaces = 5,
  kKept = 16,
  kMostBytes = 3000,
  kPatienceS = 60,
};

struct block {
  uint64_t seed;
  size_t size;
  unsigned char bytes[];
};

static struct {
  pthread_mutex_t lock;
  long amount;
  unsigned changes;
} accounts[kAccounts];

static struct {
  pthread_mutex_t lock;
  pthread_cond_t not_full, not_empty;
  struct block* place[kPlaces];
  unsigned put, taken;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .not_full = PTHREAD_COND_INITIALIZER,
           .not_empty = PTHREAD_COND_INITIALIZER};

static struct {
  pthread_t thread;
  atomic_int id;
  atomic_ulong done, sent, received;
  unsigned long transfers;
  int pipe[2];
} workers[kThreads];

static atomic_bool over;
static pthread_barrier_t all_done;
static volatile sig_atomic_t stop;
static __thread int me = -1;
static __thread uint64_t dice;

static void put(const char* line, int length) {
  // One write, whole or not at all: a short one is torn and is to be seen as such.
  if (write(STDOUT_FILENO, line, (size_t)length) != length) _exit(3);
}

// Ends the program, at once; the first that comes here says why.
__attribute__((noreturn)) static void wrong(const char* what) {
  static atomic_flag said = ATOMIC_FLAG_INIT;
  char line[200];
  while (atomic_flag_test_and_set(&said)) pause();
  put(line, snprintf(line, sizeof line, "wrong: %s (thread %d, errno %d)\n", what, me, errno));
  _exit(1);
}

static void must(bool good, const char* what) {
  if (!good) wrong(what);
}

static uint64_t roll(uint64_t sides) {
  dice ^= dice >> 12;
  dice ^= dice << 25;
  dice ^= dice >> 27;
  return dice * 0x2545f4914f6cdd1dULL % sides;
}

static unsigned char byte_of(uint64_t seed, size_t index) {
  return (unsigned char)((seed + index * 0xbf58476d1ce4e5b9ULL) >> 37);
}

static void on_usr1(int number) {
  (void)number;
  stop = 1;
}

static void on_hit(int number) {
  (void)number;
  int error = errno;
  must(me >= 0 && gettid() == atomic_load(&workers[me].id), "a signal of another thread");
  atomic_fetch_add(&workers[me].received, 1);
  errno = error;
}

static void lock(pthread_mutex_t* mutex) { must(pthread_mutex_lock(mutex) == 0, "lock"); }
static void unlock(pthread_mutex_t* mutex) { must(pthread_mutex_unlock(mutex) == 0, "unlock"); }

static void transfer(void) {
  unsigned from = (unsigned)roll(kAccounts), to = (unsigned)roll(kAccounts);
  if (from == to) return;
  unsigned first = from < to ? from : to, second = from < to ? to : from;
  lock(&accounts[first].lock);
  lock(&accounts[second].lock);
  long amount = (long)roll(100);
  accounts[from].amount -= amount;
  // Now and then the others have to wait for these two for longer.
  if (roll(200) == 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  accounts[to].amount += amount;
  ++accounts[from].changes;
  ++accounts[to].changes;
  unlock(&accounts[second].lock);
  unlock(&accounts[first].lock);
  ++workers[me].transfers;
}

static struct block* make(struct block* old) {
  size_t size = roll(100) == 0 ? 50 * kMostBytes : roll(kMostBytes);
  struct block* block = realloc(old, sizeof *block + size);
  must(block != NULL, "no memory");
  block->size = size;
  block->seed = roll(UINT64_MAX);
  for (size_t i = 0; i < size; ++i) block->bytes[i] = byte_of(block->seed, i);
  return block;
}

static void check(const struct block* block) {
  for (size_t i = 0; block && i < block->size; ++i)
    must(block->bytes[i] == byte_of(block->seed, i), "a block has changed");
}

// Puts one in and takes one out: there are as many in the queue as threads on their way to take.
static void exchange(void) {
  struct block* block = make(NULL);
  lock(&queue.lock);
  while (queue.put - queue.taken == kPlaces)
    must(pthread_cond_wait(&queue.not_full, &queue.lock) == 0, "wait");
  queue.place[queue.put++ % kPlaces] = block;
  pthread_cond_signal(&queue.not_empty);
  unlock(&queue.lock);
  lock(&queue.lock);
  while (queue.put == queue.taken)
    must(pthread_cond_wait(&queue.not_empty, &queue.lock) == 0, "wait");
  block = queue.place[queue.taken++ % kPlaces];
  pthread_cond_signal(&queue.not_full);
  unlock(&queue.lock);
  check(block);
  free(block);
}

static void hit(void) {
  int to = (int)roll(kThreads), id = atomic_load(&workers[to].id);
  if (syscall(SYS_tgkill, getpid(), id, SIGRTMIN) == 0)
    atomic_fetch_add(&workers[to].sent, 1);
  else
    must(errno == EAGAIN, "tgkill");
}

static void speak(void) {
  unsigned char said[100], heard[100];
  for (size_t i = 0; i < sizeof said; ++i) said[i] = byte_of(dice, i);
  must(write(workers[me].pipe[1], said, sizeof said) == sizeof said, "write");
  must(read(workers[me].pipe[0], heard, sizeof heard) == sizeof heard, "read");
  must(memcmp(said, heard, sizeof said) == 0, "what was read is not what was written");
}

static void* work(void* argument) {
  me = (int)(intptr_t)argument;
  dice = (uint64_t)me + 1;
  atomic_store(&workers[me].id, gettid());
  for (int i = 0; i < kThreads; ++i)
    while (atomic_load(&workers[i].id) == 0)
      nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  struct block* kept[kKept] = {0};
  while (!atomic_load(&over)) {
    for (int i = 0; i < 20; ++i) transfer();
    struct block** block = &kept[roll(kKept)];
    check(*block);
    *block = make(*block);
    exchange();
    hit();
    speak();
    must(gettid() == atomic_load(&workers[me].id), "another id");
    atomic_fetch_add(&workers[me].done, 1);
  }
  for (int i = 0; i < kKept; ++i) {
    check(kept[i]);
    free(kept[i]);
  }
  // Nobody ends while others may still send it something, nor before it has come.
  pthread_barrier_wait(&all_done);
  for (int ms = 0; atomic_load(&workers[me].received) != atomic_load(&workers[me].sent); ++ms) {
    must(ms < kPatienceS * 1000, "signals are lost, or came twice");
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return argument;
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// The sum of what all have done; a thread that has done nothing for long is wrong.
static unsigned long progress(void) {
  static unsigned long before[kThreads];
  static int64_t since[kThreads];
  unsigned long sum = 0;
  for (int i = 0; i < kThreads; ++i) {
    unsigned long done = atomic_load(&workers[i].done);
    if (since[i] == 0 || done != before[i]) since[i] = now_ns();
    if (now_ns() - since[i] > kPatienceS * 1000000000LL) {
      me = i;
      wrong("it stands still");
    }
    before[i] = done;
    sum += done;
  }
  return sum;
}

static void check_end(void) {
  long amount = 0;
  unsigned long changes = 0, transfers = 0;
  for (int i = 0; i < kThreads; ++i) {
    void* result;
    must(pthread_join(workers[i].thread, &result) == 0 && (intptr_t)result == i, "join");
    transfers += workers[i].transfers;
  }
  for (int i = 0; i < kAccounts; ++i) {
    amount += accounts[i].amount;
    changes += accounts[i].changes;
  }
  must(amount == (long)kAccounts * kStart, "the sum of the accounts");
  must(changes == 2 * transfers, "the number of changes");
  must(queue.put == queue.taken, "the queue is not empty");
}

int main(void) {
  const char* every = getenv("EVERY_MS");
  const long ms = every ? atol(every) : 1000;
  sigset_t of_main;
  sigemptyset(&of_main);
  sigaddset(&of_main, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &of_main, NULL);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_usr1, .sa_flags = SA_RESTART}, NULL);
  sigaction(SIGRTMIN, &(struct sigaction){.sa_handler = on_hit, .sa_flags = SA_RESTART}, NULL);
  for (int i = 0; i < kAccounts; ++i) {
    pthread_mutex_init(&accounts[i].lock, NULL);
    accounts[i].amount = kStart;
  }
  pthread_barrier_init(&all_done, NULL, kThreads);
  for (int i = 0; i < kThreads; ++i) {
    if (pipe(workers[i].pipe) != 0) return 2;
    if (pthread_create(&workers[i].thread, NULL, work, (void*)(intptr_t)i) != 0) return 2;
  }
  // Only this thread is told to stop.
  pthread_sigmask(SIG_UNBLOCK, &of_main, NULL);
  unsigned n = 0;
  char line[64];
  for (; !stop; ++n) {
    put(line, snprintf(line, sizeof line, "%u %lu\n", n, progress()));
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&left, &left);
  }
  atomic_store(&over, true);
  check_end();
  put(line, snprintf(line, sizeof line, "end %u\n", n));
  return 0;
}
