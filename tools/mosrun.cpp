// mosrun: starts a program as a job. It registers itself with migrated and then becomes the
// program, so that pid, parent, terminal and exit status are the program's own.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "common/config.h"
#include "migrate/jobs.h"
#include "migrate/local_client.h"

namespace drover {
namespace {

// As env(1) and nohup(1) have it.
constexpr int kExitNotExecutable = 126;
constexpr int kExitNotFound = 127;

int fail(const std::string& what) {
  std::fprintf(stderr, "mosrun: %s\n", what.c_str());
  return 1;
}

/// Makes this process a job. The connection stays open, close-on-exec: its end tells migrated
/// that the program has started.
Result<LocalClient> register_self(const Options& options) {
  DROVER_TRY(LocalClient client, LocalClient::connect(options.text("run-dir")));
  local::Request request;
  local::RegisterJob& job = *request.mutable_register_job();
  job.set_start_on(options.text("run-on"));
  job.set_never_automatic(options.yes("local"));
  job.set_memory_bytes(options.number("memory") << 20);
  job.set_on_loss(options.text("on-loss"));
  job.set_keep_memory(options.yes("keep-memory"));
  DROVER_CHECK(client.ask_one(request));
  return client;
}

int run(int argc, char** argv) {
  Options options("mosrun", "[options] PROGRAM [ARG...]",
                  "Starts PROGRAM as a job, which may then run on any node.");
  options.add({"home", 'h', OptionKind::kSwitch, "", "", "start at home, which is the default"})
      .add({"run-on", 'r', OptionKind::kNodeName, "NODE", "", "start on NODE"})
      .add({"local", 'l', OptionKind::kSwitch, "", "", "never move it automatically"})
      .add({"memory", 'm', OptionKind::kNumber, "MB", "", "needs this much memory", 1, 1U << 30})
      .add({"on-loss", 0, OptionKind::kText, "hold|kill", "hold",
            "what to do when nothing is heard of its node"})
      .add({"keep-memory", 0, OptionKind::kSwitch, "", "",
            "keep its memory here while it is away, to go on from if its node is lost"})
      .use("run-dir")
      .operands(1, SIZE_MAX, true);
  options.parse_or_exit(argc, argv);
  if (options.yes("home") && options.given("run-on")) {
    std::fprintf(stderr, "mosrun: -h and -r: only one of the two\n");
    return 2;
  }
  if (const auto choice = on_loss_named(options.text("on-loss")); !choice) {
    std::fprintf(stderr, "mosrun: --on-loss: %s\n", choice.error().message().c_str());
    return 2;
  }

  const auto client = register_self(options);
  if (!client) return fail(client.error().message());

  std::vector<char*> command;
  for (const std::string& word : options.operands())
    command.push_back(const_cast<char*>(word.c_str()));
  command.push_back(nullptr);
  ::execvp(command[0], command.data());
  const int code = errno;
  fail(std::string(command[0]) + ": " + std::strerror(code));
  return code == ENOENT ? kExitNotFound : kExitNotExecutable;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::run(argc, argv); }
