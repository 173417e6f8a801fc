/* covers: calls=clock_gettime,clock_getres kind=forwarded; moves=away; breaks-when: the CPU clock
   of another thread, or of another process, shows anything else than what that has used */
#include "threads.h"

static atomic_int burning, burnt_ms, over;
static _Atomic int64_t its_own;

// Computes for so long as it is told, and says how much it has used.
static void* burner(void* argument) {
  while (!atomic_load(&over)) {
    int ms = atomic_load(&burning);
    if (ms == 0) {
      pause_ms(1);
      continue;
    }
    int64_t end = now(CLOCK_THREAD_CPUTIME_ID) + ms * kMs;
    while (now(CLOCK_THREAD_CPUTIME_ID) < end)
      for (volatile int i = 0; i < 20000; ++i) {
      }
    atomic_store(&its_own, now(CLOCK_THREAD_CPUTIME_ID));
    atomic_fetch_add(&burnt_ms, ms);
    atomic_store(&burning, 0);
  }
  return argument;
}

static void idle(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID);
    if (!send_all(out, &used, sizeof used)) break;
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "cpu_clock_ids");
  struct helper other = conform_helper(idle);
  pthread_t thread = thread_start(burner, NULL);
  clockid_t of_thread, of_self, of_process, of_other;
  WORKS(pthread_getcpuclockid(thread, &of_thread));
  WORKS(pthread_getcpuclockid(pthread_self(), &of_self));
  WORKS(clock_getcpuclockid(getpid(), &of_process));
  WORKS(clock_getcpuclockid(other.pid, &of_other));
  conform_ready();
  int64_t last_thread = 0, last_process = 0;
  while (conform_next()) {
    int64_t self_before = now(of_self);
    atomic_store(&burning, 3);
    int64_t give_up = now(CLOCK_MONOTONIC) + kLate;
    while (atomic_load(&burning)) {
      int64_t seen_of_thread = now(of_thread), process = now(of_process);
      CHECK(seen(seen_of_thread >= last_thread) == 1, "the other thread's clock went back");
      CHECK(process >= last_process, "the process's clock went back");
      CHECK(process >= seen_of_thread, "a thread has used more than its process");
      last_thread = seen_of_thread;
      last_process = process;
      CHECK(now(CLOCK_MONOTONIC) < give_up, "it does not come to an end");
      pause_ms(1);
    }
    CHECK(now(of_thread) >= atomic_load(&its_own), "less than it has seen itself");
    CHECK(now(of_thread) >= atomic_load(&burnt_ms) * kMs, "less than it has computed");
    CHECK(now(of_self) >= self_before, "the own clock went back");
    CHECK(now(of_self) <= now(CLOCK_THREAD_CPUTIME_ID), "the own clock by its id");
    CHECK(now(of_process) <= now(CLOCK_PROCESS_CPUTIME_ID), "the process's clock by its id");
    // The other process is at home.
    int64_t its = ask(&other, 0);
    CHECK(now(of_other) >= its, "the other process has seen more itself");
    CHECK(now(of_other) <= ask(&other, 0), "the other process has seen less afterwards");
    struct timespec t;
    MUST(clock_getres(of_thread, &t));
    CHECK(t.tv_sec == 0 && t.tv_nsec == 1, "its resolution");
    // A thread that is none of ours, by the form of an id of one.
    clockid_t nobodys = (clockid_t)(~(unsigned)other.pid << 3 | 6);
    MUST_FAIL(EINVAL, clock_gettime(nobodys, &t));
    MUST_FAIL(EPERM, clock_settime(of_process, &t));
    MUST_FAIL(EFAULT, syscall(SYS_clock_gettime, of_thread, (void*)1));
  }
  atomic_store(&over, 1);
  WORKS(pthread_join(thread, NULL));
  struct timespec t;
  MUST_FAIL(EINVAL, clock_gettime(of_thread, &t));
  CHECK(now(of_process) >= atomic_load(&its_own), "what has ended does not count any more");
  return conform_end();
}
