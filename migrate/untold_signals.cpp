#include "migrate/untold_signals.h"

namespace drover {

void add_untold(ProcessState& state, const HomeServer& server) {
  for (ThreadState& thread : state.threads) {
    for (const siginfo_t& info : server.untold(thread.tid)) thread.undelivered.push_back(info);
    if (!server.stop_begun()) continue;
    std::erase_if(thread.undelivered,
                  [](const siginfo_t& info) { return info.si_signo == SIGCONT; });
  }
}

}  // namespace drover
