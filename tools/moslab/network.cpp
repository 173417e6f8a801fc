#include "tools/moslab/network.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace drover::moslab {
namespace {

constexpr char kBridge[] = "switch";
constexpr char kNodeLink[] = "eth0";
// No node has it, so frames sent to it reach nobody.
constexpr char kNowhere[] = "02:00:00:00:00:00";
constexpr double kBurstSeconds = 0.005;
constexpr long kLeastBurstBytes = 65536;  // one packet before segmentation
constexpr int kRateQueueMs = 50;

/// Runs `argv` in the network namespace of `process`; for ip and tc.
Status run_in_network(const ProcessName& process, const std::vector<std::string>& argv,
                      const std::string& input = "") {
  auto target = open_process(process);
  if (!target) return Error{ESRCH, "enter a network"};
  CommandOptions options;
  options.input = input;
  options.prepare = [&]() -> Status {
    if (setns(target->get(), CLONE_NEWNET) != 0) return errno_error("enter a network");
    // Addresses of the kernel's own making would only confuse.
    OwnedFd ipv6(open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC));
    if (ipv6 && write(ipv6.get(), "1", 1) < 0) return errno_error("switch IPv6 off");
    return {};
  };
  auto done = run_checked(argv, options);
  if (!done) return done.error();
  return {};
}

Status ip(const ProcessName& process, const std::string& commands) {
  return run_in_network(process, {"ip", "-batch", "-"}, commands);
}

std::string hardware_address(int index) {
  char text[32];
  std::snprintf(text, sizeof text, "02:4d:4c:00:00:%02x", index);
  return text;
}

/// What slows traffic leaving `device` down to the lab's rate and delay.
Status shape(const LabSpec& spec, const ProcessName& process, const std::string& device) {
  std::vector<std::string> parent = {"root"};
  if (spec.rtt_ms > 0) {
    // A packet leaves two devices on its way: node to switch, switch to node; so does the answer.
    const std::string delay = std::to_string(std::lround(spec.rtt_ms * 1000 / 4)) + "us";
    Status delayed = run_in_network(process, {"tc", "qdisc", "add", "dev", device, "root", "handle",
                                              "1:", "netem", "limit", "100000", "delay", delay});
    if (!delayed)
      return refusal("rtt: this kernel cannot delay packets, it has no netem (" +
                     delayed.error().message() + ")");
    parent = {"parent", "1:1", "handle", "10:"};
  }
  if (spec.rate_mbit <= 0) return {};
  const double bytes_per_second = spec.rate_mbit * 1e6 / 8;
  const long burst = std::max(kLeastBurstBytes, std::lround(bytes_per_second * kBurstSeconds));
  std::vector<std::string> argv = {"tc", "qdisc", "add", "dev", device};
  argv.insert(argv.end(), parent.begin(), parent.end());
  for (const std::string& word :
       {std::string("tbf"), std::string("rate"),
        std::to_string(std::lround(bytes_per_second * 8)) + "bit", std::string("burst"),
        std::to_string(burst), std::string("latency"), std::to_string(kRateQueueMs) + "ms"})
    argv.push_back(word);
  return run_in_network(process, argv);
}

/// Runs `command` in both nodes of a pair with the address of the other one put where it has a %.
Status in_both(const Lab& lab, Cut cut, const std::string& command) {
  for (const auto& [here, there] : {cut, Cut{cut.second, cut.first}}) {
    const auto init = lab.inits.find(here);
    if (init == lab.inits.end()) continue;
    std::string text = command;
    text.replace(text.find('%'), 1, node_address(there));
    DROVER_CHECK(ip(init->second, text));
  }
  return {};
}

}  // namespace

Status create_switch(const Lab& lab) {
  return ip(lab.switch_process, std::string("link add ") + kBridge +
                                    " type bridge stp_state 0 forward_delay 0\nlink set " +
                                    kBridge + " up\n");
}

Status connect_node(const Lab& lab, int index) {
  const ProcessName& init = lab.inits.at(index);
  const std::string port = node_name(index);
  DROVER_CHECK(ip(init, "link set lo up\n"));
  DROVER_CHECK(ip(lab.switch_process, "link add " + port + " type veth peer name " + kNodeLink +
                                          " address " + hardware_address(index) + " netns " +
                                          std::to_string(init.pid) + "\nlink set " + port +
                                          " master " + kBridge + " up\n"));
  DROVER_CHECK(ip(init, std::string("addr add ") + node_address(index) + "/24 dev " + kNodeLink +
                            "\nlink set " + kNodeLink + " up\n"));
  DROVER_CHECK(shape(lab.spec, init, kNodeLink));
  return shape(lab.spec, lab.switch_process, port);
}

Status disconnect_node(const Lab& lab, int index) {
  return ip(lab.switch_process, "link del " + node_name(index) + "\n");
}

Status cut_link(const Lab& lab, Cut cut) {
  // A wrong hardware address for good: packets leave and reach nobody, connections that exist
  // just stop, as with a cable pulled somewhere on the way. A blackhole route or a filter that
  // rejects would let the sender know.
  return in_both(
      lab, cut,
      std::string("neigh replace % lladdr ") + kNowhere + " nud permanent dev " + kNodeLink + "\n");
}

Status heal_link(const Lab& lab, Cut cut) {
  return in_both(lab, cut, std::string("neigh del % dev ") + kNodeLink + "\n");
}

}  // namespace drover::moslab
