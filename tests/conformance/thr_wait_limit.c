/* covers: calls=poll,epoll_wait,epoll_pwait2,rt_sigtimedwait,select,ppoll,pselect6,clock_nanosleep
   kind=forwarded; breaks-when: of several threads that wait at once with a limit of time each, one
   ends early, or begins anew with every move or whenever another one calls */
#include "threads.h"
#include "timed_waits.h"

enum { kEveryRounds = 8 };

static int (*const kWaits[])(int) = {by_poll,   by_epoll, by_epoll_to_the_ns, by_signal,
                                     by_select, by_ppoll, by_pselect,         by_sleep};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

// All begin together and end at different times.
static void part(int who, int round) {
  if (round % kEveryRounds != 4) return;
  check_wait(kWaits[who], who, 250 + (who + round) % kKinds * 40);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_wait_limit");
  waits_begin();
  crew_start(kKinds, part);
  conform_ready();
  while (conform_next()) {
    crew_begin();
    for (int i = 0; i < 20; ++i) pause_ms(1);
    crew_finish();
  }
  crew_end();
  return conform_end();
}
