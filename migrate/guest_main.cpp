// guest: hosts one body. Started by migrated with its socket as descriptor 3; not by people.
#include <ctime>
#include <iostream>

#include "common/fault.h"
#include "common/log.h"
#include "migrate/guest.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--list-fault-points") {
    for (const auto point : drover::kFaultPoints) std::cout << point << '\n';
    return 0;
  }
  if (argc != 2) {
    std::cerr << "guest: is started by migrated: guest DIRECTORY\n";
    return 2;
  }
  drover::log_init("guest", drover::LogLevel::kInfo);
  tzset();  // its log has the node's time, whose zone is in a file
  constexpr int kControl = 3;
  drover::Guest guest(drover::LocalSocket(drover::OwnedFd(kControl)), argv[1]);
  return guest.run();
}
