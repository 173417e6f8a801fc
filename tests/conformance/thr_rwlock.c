/* covers: calls=clock_nanosleep kind=forwarded; calls=futex kind=local; breaks-when: a reader sees
   what a writer has half done, readers keep each other out, or a waiter is not woken */
#include "threads.h"

enum { kReaders = 6, kWriters = 2, kReads = 30, kWrites = 10, kWords = 512 };

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static unsigned words[kWords];
static atomic_int reading, writing, met;

static void read_all(void) {
  WORKS(pthread_rwlock_rdlock(&lock));
  atomic_fetch_add(&reading, 1);
  CHECK(atomic_load(&writing) == 0, "a writer among readers");
  unsigned first = words[0];
  for (int i = 1; i < kWords; ++i)
    CHECK(seen(words[i]) == first, "word %d is %u, not %u", i, words[i], first);
  atomic_fetch_sub(&reading, 1);
  WORKS(pthread_rwlock_unlock(&lock));
}

static void write_all(bool slowly) {
  WORKS(pthread_rwlock_wrlock(&lock));
  CHECK(atomic_fetch_add(&writing, 1) == 0, "two writers");
  CHECK(atomic_load(&reading) == 0, "a reader beside the writer");
  for (int i = 0; i < kWords; ++i) {
    ++words[i];
    if (slowly && i == kWords / 2) pause_ms(2);
  }
  atomic_fetch_sub(&writing, 1);
  WORKS(pthread_rwlock_unlock(&lock));
}

static void part(int who, int round) {
  if (who >= kReaders) {
    for (int i = 0; i < kWrites; ++i) write_all(i % 4 == round % 4);
    return;
  }
  for (int i = 0; i < kReads; ++i) read_all();
  // All readers at once hold it: none goes on before each of them is there.
  if (round % 4 == 0) {
    WORKS(pthread_rwlock_rdlock(&lock));
    atomic_fetch_add(&met, 1);
    await_count(&met, round / 4 * kReaders, "readers at once");
    GIVES(EBUSY, pthread_rwlock_trywrlock(&lock));
    WORKS(pthread_rwlock_unlock(&lock));
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_rwlock");
  crew_start(kReaders + kWriters, part);
  conform_ready();
  while (conform_next()) {
    crew_round();
    unsigned expected = (unsigned)conform.round * kWriters * kWrites;
    CHECK(seen(words[0]) == expected, "%u writes instead of %u", words[0], expected);
  }
  crew_end();
  return conform_end();
}
