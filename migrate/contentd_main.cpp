// contentd: keeps this node's cache of the contents of mapped files. Started by migrated with its
// control socket as descriptor 3; not by people. See migrate/cache_server.h.
#include <sys/prctl.h>

#include <charconv>
#include <iostream>
#include <string_view>

#include "common/durable_file.h"
#include "common/log.h"
#include "migrate/cache_server.h"

int main(int argc, char** argv) {
  using namespace drover;
  std::uint64_t limit = 0;
  const std::string_view size = argc == 3 ? argv[2] : "";
  if (std::from_chars(size.data(), size.data() + size.size(), limit).ec != std::errc{}) {
    std::cerr << "contentd: is started by migrated: contentd DIRECTORY BYTES\n";
    return 2;
  }
  log_init("contentd", LogLevel::kInfo);
  prctl(PR_SET_DUMPABLE, 0);
  // The one of the migrated before may still be at work on what it was asked last.
  const auto alone = lock_directory(argv[1]);
  if (!alone) {
    log_error("{}", alone.error().message());
    return 1;
  }
  auto cache = ContentCache::open(argv[1], limit);
  if (!cache) {
    log_error("{}", cache.error().message());
    return 1;
  }
  constexpr int kControl = 3;
  CacheServer server(*std::move(cache));
  if (const Status served = server.run(LocalSocket(OwnedFd(kControl))); !served) {
    log_error("{}", served.error().message());
    return 1;
  }
  return 0;
}
