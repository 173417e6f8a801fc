#include "tools/moslab/commands.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "tools/moslab/daemons.h"
#include "tools/moslab/filesystem.h"
#include "tools/moslab/network.h"
#include "tools/moslab/node.h"

namespace drover::moslab {
namespace {

/// Keeps what would end this process waiting while it is alive, so that whoever began to build
/// something can also clear it away. For `in_worker` to take in.
class Interruptions {
 public:
  Interruptions() {
    sigemptyset(&waited_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT})
      sigaddset(&waited_, signal);
    sigprocmask(SIG_BLOCK, &waited_, &before_);
    std::signal(SIGCHLD, SIG_DFL);  // a caller may have it ignored, and then there is no status
  }
  ~Interruptions() { restore(); }
  Interruptions(const Interruptions&) = delete;
  Interruptions& operator=(const Interruptions&) = delete;

  /// Waits for a child to change or for an interruption; says whether it was one.
  bool wait() const { return sigwaitinfo(&waited_, nullptr) != SIGCHLD; }
  /// As before; for a child, too.
  void restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t waited_{};
  sigset_t before_{};
};

/// Runs `work` in a child that is in the lab's groups, so that whatever it starts is born there
/// and is found by take_down, even if all of moslab is killed at that moment. The caller is
/// outside and stays alive to clean up. An interruption of the caller ends the work.
Status in_worker(const Interruptions& interruptions, const LabCgroups& cgroups,
                 const std::function<Status()>& work) {
  int fds[2];
  if (pipe2(fds, 0) != 0) return errno_error("pipe");
  OwnedFd verdict(fds[0]), say(fds[1]);
  const pid_t caller = getpid();
  const pid_t worker = fork();
  if (worker < 0) return errno_error("fork");
  if (worker == 0) {
    verdict.reset();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != caller) _exit(1);
    interruptions.restore();
    Status done = cgroups.join_control();
    if (done) done = work();
    const std::string text = done ? "" : done.error().message();
    (void)!write(say.get(), text.data(), text.size());
    _exit(done ? 0 : 1);
  }
  say.reset();
  int status = 0;
  while (waitpid(worker, &status, WNOHANG) == 0) {
    if (!interruptions.wait()) continue;
    kill(worker, SIGKILL);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  char text[1024];
  const ssize_t length = WIFEXITED(status) ? read(verdict.get(), text, sizeof text) : 0;
  if (length > 0) return refusal(std::string(text, static_cast<std::size_t>(length)));
  return refusal("interrupted");
}

Status build(Lab& lab) {
  DROVER_CHECK(start_switch(lab));
  DROVER_CHECK(save_lab(lab));
  DROVER_CHECK(enter_disks(lab));
  for (int index = 1; index <= lab.spec.nodes; ++index) {
    DROVER_CHECK(format_disk(lab.spec, index));
    DROVER_CHECK(boot_node(lab, index));
    DROVER_CHECK(save_lab(lab));
  }
  if (lab.spec.daemons) {
    DROVER_CHECK(found_cluster(lab));
    for (int index = 1; index <= lab.spec.nodes; ++index) DROVER_CHECK(start_daemon(lab, index));
    for (int index = 1; index <= lab.spec.nodes; ++index) DROVER_CHECK(await_daemon(lab, index));
  }
  return {};
}

Status erase(const std::string& name, const LabCgroups& cgroups) {
  DROVER_CHECK(cgroups.kill_all());
  DROVER_CHECK(cgroups.remove_all());
  return remove_lab_dir(name);
}

/// What is asked of a lab that exists, one such thing at a time.
Status change(const std::string& name, const std::function<Status(Lab&)>& how) {
  DROVER_TRY(OwnedFd lock, lock_lab(name));
  DROVER_TRY(Lab lab, load_lab(name));
  DROVER_CHECK(how(lab));
  return save_lab(lab);
}

Result<Cut> find_pair(const Lab& lab, const std::string& one, const std::string& other) {
  DROVER_TRY(const int a, node_index(lab, one));
  DROVER_TRY(const int b, node_index(lab, other));
  if (a == b) return refusal(one + ": a node is always connected to itself");
  return Cut{std::min(a, b), std::max(a, b)};
}

bool is_on(const Lab& lab, int index) {
  const auto init = lab.inits.find(index);
  return init != lab.inits.end() && open_process(init->second).has_value();
}

nlohmann::json node_json(const Lab& lab, int index) {
  const bool on = is_on(lab, index);
  nlohmann::json node = {{"name", node_name(index)},
                         {"address", node_address(index)},
                         {"state", on ? "on" : "off"},
                         {"cpus", nullptr},
                         {"init", nullptr},
                         {"daemon", on && daemon_answers(lab, index)}};
  if (!lab.spec.cpus.empty()) node["cpus"] = lab.spec.cpus[static_cast<std::size_t>(index - 1)];
  if (on) node["init"] = lab.inits.at(index).pid;
  node["cut_from"] = nlohmann::json::array();
  for (const auto& [a, b] : lab.cuts) {
    if (a == index || b == index) node["cut_from"].push_back(node_name(a == index ? b : a));
  }
  return node;
}

std::string node_row(const nlohmann::json& node) {
  std::string cuts;
  for (const auto& other : node["cut_from"])
    cuts += (cuts.empty() ? "" : ",") + other.get<std::string>();
  auto or_dash = [](const nlohmann::json& value) { return value.is_null() ? "-" : value.dump(); };
  char row[256];
  std::snprintf(row, sizeof row, "%-5s %-6s %-13s %-6s %-8s %-7s %s\n",
                node["name"].get<std::string>().c_str(), node["state"].get<std::string>().c_str(),
                node["address"].get<std::string>().c_str(), or_dash(node["cpus"]).c_str(),
                or_dash(node["init"]).c_str(), node["daemon"].get<bool>() ? "yes" : "no",
                cuts.empty() ? "-" : cuts.c_str());
  return row;
}

}  // namespace

Status bring_up(const LabSpec& spec) {
  Lab lab;
  lab.spec = spec;
  DROVER_TRY(lab.hierarchies, find_hierarchies());
  const Interruptions interruptions;
  DROVER_CHECK(create_lab_dir(spec.name));
  // From here on the lab can be taken down by its name, whatever becomes of this process: what it
  // is made of is written down before it is made.
  Status built = [&]() -> Status {
    DROVER_TRY(OwnedFd lock, lock_lab(spec.name));
    DROVER_CHECK(save_lab(lab));
    DROVER_CHECK(lab.cgroups().create());
    return in_worker(interruptions, lab.cgroups(), [&] { return build(lab); });
  }();
  if (built) return {};
  if (Status erased = erase(spec.name, lab.cgroups()); !erased)
    return refusal(built.error().message() + "; and then: " + erased.error().message());
  return built.error();
}

Status take_down(const std::string& name) {
  const auto labs = list_labs();
  if (std::ranges::find(labs, name) == labs.end()) return refusal("lab " + name + ": it is not up");
  // A lab whose state was never written has nothing but its directory.
  auto lab = load_lab(name);
  if (lab) return erase(name, lab->cgroups());
  DROVER_TRY(auto hierarchies, find_hierarchies());
  return erase(name, LabCgroups(name, hierarchies));
}

Status cut_nodes(const std::string& name, const std::string& one, const std::string& other) {
  return change(name, [&](Lab& lab) -> Status {
    DROVER_TRY(const Cut cut, find_pair(lab, one, other));
    if (std::ranges::find(lab.cuts, cut) != lab.cuts.end()) return {};
    DROVER_CHECK(cut_link(lab, cut));
    lab.cuts.push_back(cut);
    return {};
  });
}

Status heal_nodes(const std::string& name, const std::string& one, const std::string& other) {
  return change(name, [&](Lab& lab) -> Status {
    std::vector<Cut> healed = lab.cuts;
    if (!one.empty()) {
      DROVER_TRY(const Cut cut, find_pair(lab, one, other));
      if (std::ranges::find(lab.cuts, cut) == lab.cuts.end())
        return refusal("heal " + one + " " + other + ": they are not cut");
      healed = {cut};
    }
    for (const Cut& cut : healed) {
      DROVER_CHECK(heal_link(lab, cut));
      std::erase(lab.cuts, cut);
    }
    return {};
  });
}

Status kill_node(const std::string& name, const std::string& node) {
  return change(name, [&](Lab& lab) -> Status {
    DROVER_TRY(const int index, node_index(lab, node));
    return power_cut(lab, index);
  });
}

Status start_node(const std::string& name, const std::string& node) {
  DROVER_TRY(OwnedFd lock, lock_lab(name));
  DROVER_TRY(Lab lab, load_lab(name));
  DROVER_TRY(const int index, node_index(lab, node));
  if (is_on(lab, index)) return refusal(node + ": it is on");
  // A node that died by itself has left its groups and the other end of its cable.
  (void)disconnect_node(lab, index);
  DROVER_CHECK(lab.cgroups().kill_node(node));
  DROVER_CHECK(lab.cgroups().remove_node(node));
  const Interruptions interruptions;
  Status started = in_worker(interruptions, lab.cgroups(), [&]() -> Status {
    DROVER_CHECK(enter_disks(lab));
    DROVER_CHECK(boot_node(lab, index));
    DROVER_CHECK(save_lab(lab));
    if (!lab.spec.daemons) return {};
    DROVER_CHECK(start_daemon(lab, index));
    return await_daemon(lab, index);
  });
  if (!started) (void)lab.cgroups().kill_node(node);
  return started;
}

Result<std::string> describe(const std::string& name, bool json) {
  DROVER_TRY(const Lab lab, load_lab(name));
  nlohmann::json nodes = nlohmann::json::array();
  for (int index = 1; index <= lab.spec.nodes; ++index) nodes.push_back(node_json(lab, index));
  if (json) return nlohmann::json{{"name", name}, {"nodes", nodes}}.dump(2) + "\n";
  std::string text =
      "lab " + name + "\nNODE  STATE  ADDRESS       CPUS   INIT     DAEMON  CUT FROM\n";
  for (const auto& node : nodes) text += node_row(node);
  return text;
}

}  // namespace drover::moslab
