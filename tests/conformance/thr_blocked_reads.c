/* covers: calls=read,write,getppid kind=forwarded; breaks-when: threads that are blocked in calls
   keep the calls of another one from being done, or one of them does not get what it waits for */
#include "threads.h"

enum { kReaders = 16, kRecord = 64, kMessage = 3000 };

static int pipes[kReaders][2];
static atomic_int got[kReaders];
static pid_t parent;

static void* reader(void* argument) {
  int me = (int)unboxed(argument);
  unsigned char record[kRecord];
  for (int number = 0;; ++number) {
    ssize_t n = read(pipes[me][0], record, kRecord);
    if (n == 0) return boxed(number);
    CHECK(seen(n) == kRecord, "read gave %zd", n);
    CHECK(filled(record, kRecord, (uint64_t)(number * kReaders + me)), "record %d of thread %d",
          number, me);
    atomic_fetch_add(&got[me], 1);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_blocked_reads");
  parent = getppid();
  pthread_t threads[kReaders];
  for (int i = 0; i < kReaders; ++i) {
    MUST(pipe2(pipes[i], O_CLOEXEC));
    threads[i] = thread_start(reader, boxed(i));
  }
  int own[2], sent[kReaders] = {0};
  MUST(pipe2(own, O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    static unsigned char message[kMessage], back[kMessage];
    for (int n = 0; n < 4; ++n) {
      CHECK(getppid() == parent, "the parent");
      fill(message, kMessage, (uint64_t)(conform.round * 4 + n));
      CHECK(write(own[1], message, kMessage) == kMessage, "write");
      CHECK(read(own[0], back, kMessage) == kMessage, "read");
      CHECK(memcmp(message, back, kMessage) == 0, "its own message");
    }
    // One of them gets something: the others have been blocked for as many rounds as there are.
    int to = conform.round * 7 % kReaders;
    unsigned char record[kRecord];
    fill(record, kRecord, (uint64_t)(sent[to]++ * kReaders + to));
    CHECK(write(pipes[to][1], record, kRecord) == kRecord, "write to thread %d", to);
    await_count(&got[to], sent[to], "its record");
    for (int i = 0; i < kReaders; ++i)
      CHECK(seen(atomic_load(&got[i])) == sent[i], "thread %d got %d", i, atomic_load(&got[i]));
  }
  for (int i = 0; i < kReaders; ++i) {
    void* count;
    MUST(close(pipes[i][1]));
    WORKS(pthread_join(threads[i], &count));
    CHECK(unboxed(count) == sent[i], "thread %d got %d of %d", i, (int)unboxed(count), sent[i]);
  }
  return conform_end();
}
