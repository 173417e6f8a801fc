// migrated: the daemon that owns this node's jobs and guests.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "common/log.h"
#include "migrate/daemon.h"

namespace drover {
namespace {

int fail(const Error& why) {
  std::fprintf(stderr, "migrated: %s\n", why.message().c_str());
  return 1;
}

int run(int argc, char** argv) {
  Options options = daemon_options();
  options.parse_or_exit(argc, argv);
  const auto level = parse_log_level(options.text("log-level"));
  if (!level) {
    std::fprintf(stderr, "migrated: log-level: %s\n", level.error().message().c_str());
    return 2;
  }
  const auto settings = daemon_settings(options);
  if (!settings) return fail(settings.error());
  log_init("migrated", *level);
  log_set_node(settings->node);
  // For the steps of its own that tests make fail.
  if (!settings->spawn.fault.empty()) ::setenv("DROVER_FAULT", settings->spawn.fault.c_str(), 1);

  // Before any thread is started: all threads are to leave these to the loop.
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  // The node's keys are in this memory.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);

  auto daemon = Daemon::open(*settings);
  if (!daemon) return fail(daemon.error());
  const Status ran = (*daemon)->run();
  return ran ? 0 : fail(ran.error());
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::run(argc, argv); }
