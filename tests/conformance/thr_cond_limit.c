/* covers: calls=futex kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a thread's
   wait for a condition, a semaphore or a lock with a limit of time ends early, or begins anew with
   every move */
#include <semaphore.h>

#include "threads.h"

// Longer than the moves are apart: a wait that each of them made begin anew would hardly end.
enum { kLimitMs = 600, kLateMs = 2000, kEveryRounds = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, taken = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t none;

static int by_condition(clockid_t clock, const struct timespec* end) {
  int error;
  WORKS(pthread_mutex_lock(&lock));
  do {
    error = pthread_cond_clockwait(&never, &lock, clock, end);
  } while (error == 0);
  WORKS(pthread_mutex_unlock(&lock));
  return error;
}
static int by_semaphore(clockid_t clock, const struct timespec* end) {
  return sem_clockwait(&none, clock, end) == 0 ? 0 : errno;
}
static int by_mutex(clockid_t clock, const struct timespec* end) {
  return pthread_mutex_clocklock(&taken, clock, end);
}
static int by_read_lock(clockid_t clock, const struct timespec* end) {
  return pthread_rwlock_clockrdlock(&written, clock, end);
}
static int by_write_lock(clockid_t clock, const struct timespec* end) {
  return pthread_rwlock_clockwrlock(&written, clock, end);
}

static int (*const kWaits[])(clockid_t, const struct timespec*) = {
    by_condition, by_semaphore, by_mutex, by_read_lock, by_write_lock};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

// Each kind twice, once by either clock.
static void part(int who, int round) {
  if (round % kEveryRounds != 4) return;
  int which = who / 2;
  clockid_t clock = who % 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
  int64_t end = now(clock) + kLimitMs * kMs;
  struct timespec limit = spec_of(end);
  int error = kWaits[which](clock, &limit);
  int64_t late = now(clock) - end;
  CHECK(seen(error) == ETIMEDOUT, "wait %d gave %d", who, error);
  CHECK(late >= 0, "wait %d ended %lld us early", who, (long long)(-late / 1000));
  CHECK(late < kLateMs * kMs, "wait %d ended %lld ms late", who, (long long)(late / kMs));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_cond_limit");
  MUST(sem_init(&none, 0, 0));
  WORKS(pthread_mutex_lock(&taken));
  WORKS(pthread_rwlock_wrlock(&written));
  crew_start(2 * kKinds, part);
  conform_ready();
  while (conform_next()) crew_round();
  crew_end();
  return conform_end();
}
