/* covers: calls=poll,epoll_wait,epoll_pwait2,rt_sigtimedwait,select,ppoll,pselect6 kind=forwarded;
   breaks-when: a wait with a limit of time ends early, or begins anew with every move */
#include "timed_waits.h"

// Longer than the moves are apart: a wait that each of them made begin anew would hardly end.
enum { kLimitMs = 600 };

static int (*const kWaits[])(int) = {by_poll,   by_epoll, by_epoll_to_the_ns, by_signal,
                                     by_select, by_ppoll, by_pselect};
enum { kKinds = sizeof kWaits / sizeof *kWaits };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "wait_limit");
  waits_begin();
  conform_ready();
  while (conform_next()) {
    if (conform.round % 4 != 0) continue;
    int which = conform.round / 4 % kKinds;
    check_wait(kWaits[which], which, kLimitMs);
  }
  return conform_end();
}
