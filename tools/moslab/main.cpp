// moslab: a cluster on one machine.

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tools/moslab/cli.h"
#include "tools/moslab/commands.h"
#include "tools/moslab/exec.h"
#include "tools/moslab/node.h"

namespace drover::moslab {
namespace {

int fail(const Error& error, int status) {
  std::fprintf(stderr, "moslab: %s\n", error.message().c_str());
  return status;
}

Result<int> execute(const Command& command, const std::string& lab_name) {
  DROVER_TRY(const Lab lab, load_lab(lab_name));
  DROVER_TRY(const int node, node_index(lab, command.words.front()));
  return run_in_node(lab, {node, command.program, command.user});
}

Status take_down_all() {
  for (const std::string& name : list_labs()) DROVER_CHECK(take_down(name));
  return {};
}

Status show(const std::string& lab, bool json) {
  DROVER_TRY(const std::string text, describe(lab, json));
  std::fputs(text.c_str(), stdout);
  return {};
}

Status run(const Command& command, const std::string& lab) {
  const auto& words = command.words;
  auto word = [&](std::size_t i) { return i < words.size() ? words[i] : std::string(); };
  if (command.verb == "cut") return cut_nodes(lab, word(0), word(1));
  if (command.verb == "heal") return heal_nodes(lab, word(0), word(1));
  if (command.verb == "kill") return kill_node(lab, word(0));
  if (command.verb == "start") return start_node(lab, word(0));
  if (command.verb == "status") return show(lab, command.json);
  return take_down(lab);
}

int main(const std::vector<std::string>& args) {
  auto command = parse_command_line(args);
  if (!command) return fail(command.error(), 2);
  if (command->verb == "help") return std::fputs(usage().c_str(), stdout) < 0;
  if (command->verb == "version") return std::puts("moslab " DROVER_VERSION) < 0;
  if (geteuid() != 0) return fail(refusal(command->verb + ": only root can"), 1);

  Status done;
  if (command->verb == "up") {
    done = bring_up(command->spec);
  } else if (command->verb == "down" && command->all) {
    done = take_down_all();
  } else {
    auto lab = command->lab ? Result<std::string>(*command->lab) : only_lab();
    if (command->verb == "exec") {
      auto status = lab ? execute(*command, *lab) : Result<int>(lab.error());
      return status ? *status : fail(status.error(), kExecFailed);
    }
    done = lab ? run(*command, *lab) : Status(lab.error());
  }
  return done ? 0 : fail(done.error(), 1);
}

}  // namespace
}  // namespace drover::moslab

int main(int argc, char** argv) {
  const std::string name = argc > 0 ? argv[0] : "";
  if (name == drover::moslab::kInitRole) return drover::moslab::run_init();
  if (name == drover::moslab::kSwitchRole) return drover::moslab::run_switch();
  return drover::moslab::main(std::vector<std::string>(argv + 1, argv + argc));
}
