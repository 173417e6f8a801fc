#include "tools/moslab/daemons.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>

#include "common/owned_fd.h"
#include "tools/moslab/process.h"

namespace drover::moslab {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kConfig[] = "/etc/drover/drover.conf";
constexpr char kMembers[] = "/etc/drover/members";
constexpr char kAdminKey[] = "/etc/drover/admin.pub";
constexpr char kSocket[] = "/run/drover/migrated.sock";
constexpr char kLog[] = "/var/log/drover/migrated.log";
constexpr milliseconds kStartPatience{15000};

/// Runs a command on a node, as moslab exec would, and returns its stdout.
Result<std::string> on_node(const Lab& lab, int index, const std::vector<std::string>& argv,
                            const std::string& input = "") {
  std::vector<std::string> command = {"/proc/self/exe", "exec",           "--name",
                                      lab.spec.name,    node_name(index), "--"};
  command.insert(command.end(), argv.begin(), argv.end());
  CommandOptions options;
  options.input = input;
  auto out = run_checked(command, options);
  // What was run is said by the node's own message: "moslab:" in front of it says nothing more.
  if (!out) {
    std::string why = out.error().message();
    if (const auto at = why.find(command[0] + ": "); at == 0)
      why = why.substr(command[0].size() + 2);
    return refusal(node_name(index) + ": " + argv[0] + ": " + why);
  }
  return out;
}

Status write_on_node(const Lab& lab, int index, const std::string& path, const std::string& text) {
  auto done = on_node(lab, index, {"/bin/sh", "-c", "cat > \"$0\"", path}, text);
  if (!done) return done.error();
  return {};
}

std::string configuration(const Lab& lab, int index) {
  std::string text = "node-name = " + node_name(index) + "\nallow-root-jobs = yes\n";
  for (const std::string& line : lab.spec.config) text += line + "\n";
  return text;
}

std::string trimmed(const std::string& text) {
  const auto end = text.find_last_not_of(" \n\r\t");
  return end == std::string::npos ? "" : text.substr(0, end + 1);
}

std::string last_line(const std::string& text) {
  const std::string body = trimmed(text);
  const auto start = body.rfind('\n');
  return start == std::string::npos ? body : body.substr(start + 1);
}

}  // namespace

Status found_cluster(const Lab& lab) {
  for (int index = 1; index <= lab.spec.nodes; ++index)
    DROVER_CHECK(write_on_node(lab, index, kConfig, configuration(lab, index)));
  if (auto founded = on_node(lab, 1, {"mosctl", "--address", node_address(1), "init"}); !founded)
    return founded.error();
  for (int index = 2; index <= lab.spec.nodes; ++index) {
    DROVER_TRY(const std::string key,
               on_node(lab, index, {"mosctl", "--address", node_address(index), "key"}));
    auto added = on_node(lab, 1, {"mosctl", "add", trimmed(key)});
    if (!added) return added.error();
  }
  for (const char* file : {kMembers, kAdminKey}) {
    DROVER_TRY(const std::string text, on_node(lab, 1, {"cat", file}));
    for (int index = 2; index <= lab.spec.nodes; ++index)
      DROVER_CHECK(write_on_node(lab, index, file, text));
  }
  return {};
}

Status start_daemon(const Lab& lab, int index) {
  const std::string script =
      std::string("mkdir -p /var/log/drover && migrated </dev/null >>") + kLog + " 2>&1 &";
  auto started = on_node(lab, index, {"/bin/sh", "-c", script});
  if (!started) return started.error();
  return {};
}

Status await_daemon(const Lab& lab, int index) {
  const auto deadline = steady_clock::now() + kStartPatience;
  while (!daemon_answers(lab, index)) {
    if (steady_clock::now() > deadline) {
      auto log = on_node(lab, index, {"cat", kLog});
      return refusal(node_name(index) + ": migrated does not start: " +
                     (log ? last_line(*log) : log.error().message()));
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
  return {};
}

bool daemon_answers(const Lab& lab, int index) {
  const auto init = lab.inits.find(index);
  if (init == lab.inits.end() || !open_process(init->second)) return false;
  // A Unix socket is found by its file, whatever the network namespace.
  const std::string path = "/proc/" + std::to_string(init->second.pid) + "/root" + kSocket;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const OwnedFd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  return probe && connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace drover::moslab
