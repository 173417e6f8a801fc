// With LD_PRELOAD: a wall clock that is ahead by CLOCK_AHEAD seconds.
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec* time) {
  const char* ahead = getenv("CLOCK_AHEAD");
  const int result = (int)syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && clock == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
  return result;
}
