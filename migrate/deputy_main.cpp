// deputy: holds one process that is away. Started by migrated with its socket as descriptor 3
// and the home node's name as its argument; not by people.
#include <sys/prctl.h>

#include <iostream>

#include "common/fault.h"
#include "common/log.h"
#include "migrate/deputy.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--list-fault-points") {
    for (const auto point : drover::kFaultPoints) std::cout << point << '\n';
    return 0;
  }
  drover::log_init("deputy", drover::LogLevel::kInfo);
  prctl(PR_SET_DUMPABLE, 0);
  constexpr int kControl = 3;
  drover::Deputy deputy(drover::LocalSocket(drover::OwnedFd(kControl)),
                        argc > 1 ? argv[1] : "home");
  return deputy.run();
}
