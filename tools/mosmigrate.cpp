// mosmigrate: moves a process now and waits for it.
#include <charconv>
#include <cstdio>
#include <string>

#include "common/config.h"
#include "migrate/local_client.h"

namespace drover {
namespace {

bool parse_pid(const std::string& text, int& pid) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), pid);
  return code == std::errc() && end == text.data() + text.size() && pid > 0;
}

Result<local::Migrated> migrate(const std::string& run_dir, int pid, const std::string& target) {
  DROVER_TRY(LocalClient client, LocalClient::connect(run_dir));
  local::Request request;
  request.mutable_migrate_job()->set_pid(pid);
  request.mutable_migrate_job()->set_target(target);
  DROVER_TRY(const local::Reply reply, client.ask_one(request, kForever));
  return reply.migrated();
}

int run(int argc, char** argv) {
  Options options("mosmigrate", "[options] PID NODE|home",
                  "Moves the process PID of a job to NODE, or home, and waits for it.");
  options.add({"verbose", 'v', OptionKind::kSwitch, "", "", "say how long it took"})
      .use("run-dir")
      .operands(2, 2);
  options.parse_or_exit(argc, argv);
  const std::string& pid_text = options.operands()[0];
  const std::string& target = options.operands()[1];
  int pid = 0;
  if (!parse_pid(pid_text, pid)) {
    std::fprintf(stderr, "mosmigrate: %s: not a process id\n", pid_text.c_str());
    return 2;
  }

  const auto moved = migrate(options.text("run-dir"), pid, target);
  if (!moved) {
    std::fprintf(stderr, "mosmigrate: %d: cannot move to %s: %s\n", pid, target.c_str(),
                 moved.error().message().c_str());
    return 1;
  }
  if (options.yes("verbose"))
    std::printf("%d: moved from %s to %s: frozen %.1f ms, took %.1f ms, %.1f MB\n", pid,
                moved->from().c_str(), moved->to().c_str(), moved->freeze_ns() / 1e6,
                moved->duration_ns() / 1e6, moved->bytes() / 1e6);
  return 0;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::run(argc, argv); }
