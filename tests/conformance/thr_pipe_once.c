/* covers: calls=read kind=forwarded; breaks-when: of what several threads read from one pipe a part
   comes twice, not at all, or to one thread out of order */
#include "threads.h"

enum { kReaders = 5, kRecord = 64, kBatch = 150, kMostRounds = 1000 };

static struct helper home;
static atomic_uchar taken[kMostRounds * kBatch];
static atomic_int count;

// A record is written whole, as it is smaller than PIPE_BUF.
static void writer(int in, int out) {
  unsigned char record[kRecord];
  int number = 0;
  for (int64_t wanted; receive_all(in, &wanted, sizeof wanted);)
    for (; number < wanted; ++number) {
      fill(record, kRecord, (uint64_t)number);
      memcpy(record, &number, sizeof number);
      if (write(out, record, kRecord) != kRecord) _exit(1);
      if (number % 37 == 0) pause_ms(1);
    }
}

static void* reader(void* argument) {
  unsigned char record[kRecord], expected[kRecord];
  for (int last = -1;;) {
    ssize_t n = read(home.from, record, kRecord);
    if (n == 0) return argument;
    CHECK(n == kRecord, "read gave %zd", n);
    int number;
    memcpy(&number, record, sizeof number);
    fill(expected, kRecord, (uint64_t)number);
    memcpy(expected, &number, sizeof number);
    CHECK(memcmp(record, expected, kRecord) == 0, "record %d", number);
    CHECK(number > last, "%d after %d", number, last);
    CHECK(number < kMostRounds * kBatch && seen(atomic_fetch_add(&taken[number], 1)) == 0,
          "%d comes twice", number);
    last = number;
    atomic_fetch_add(&count, 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_pipe_once");
  CHECK(conform.rounds <= kMostRounds, "too many rounds");
  home = conform_helper(writer);
  pthread_t threads[kReaders];
  for (int i = 0; i < kReaders; ++i) threads[i] = thread_start(reader, boxed(i));
  conform_ready();
  while (conform_next()) {
    int64_t wanted = (int64_t)conform.round * kBatch;
    CHECK(write(home.to, &wanted, sizeof wanted) == sizeof wanted, "the writer is gone");
    // Every other round ends while they still read.
    if (conform.round % 2 == 0) await_count(&count, (int)wanted, "records");
  }
  await_count(&count, conform.rounds * kBatch, "records");
  MUST(close(home.to));
  for (int i = 0; i < kReaders; ++i) WORKS(pthread_join(threads[i], NULL));
  CHECK(seen(atomic_load(&count)) == conform.rounds * kBatch, "%d records", atomic_load(&count));
  return conform_end();
}
