// mosctl: makes a cluster, signs nodes in and out, shows who belongs.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/durable_file.h"
#include "common/identity.h"
#include "common/membership.h"
#include "common/protocol.h"
#include "migrate/local_client.h"

namespace drover {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kUsage[] =
    "[options] COMMAND\n"
    "       mosctl key               print this node's key line, for mosctl add\n"
    "       mosctl init              make a cluster with this node in it\n"
    "       mosctl add NODE-KEY      sign a node in, or change its zone and addresses\n"
    "       mosctl revoke NODE       exclude a node for good\n"
    "       mosctl nodes [--json]    show the nodes of the list";

Options declare_options() {
  Options options("mosctl", kUsage, "Says which nodes belong to the cluster.");
  options.use("node-name").use("zone").use("bind-address").use("data-port").use("control-port");
  options.use("state-dir").use("run-dir").use("members").use("admin-key");
  options.add({"admin-dir", 0, OptionKind::kText, "DIR", "/var/lib/drover/admin",
               "where the administrator's private key is"});
  options.add({"address", 0, OptionKind::kText, "HOST[,HOST...]", "",
               "where others reach this node, best first (key, init)"});
  options.add({"json", 0, OptionKind::kSwitch, "", "", "print JSON (nodes)"});
  options.operands(1, 2);
  return options;
}

std::string text_of(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address->sa_family == AF_INET)
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text,
                sizeof text);
  else
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
                sizeof text);
  return text;
}

/// The address that packets to the world would bear; empty if there is no such route.
std::string address_towards_the_world() {
  const OwnedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  ::inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);  // RFC 5737: nobody's; nothing is sent
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::connect(fd.get(), generic, size) < 0 || ::getsockname(fd.get(), generic, &size) < 0)
    return "";
  return text_of(generic);
}

/// The first address of any interface but the loopback; empty if there is none.
std::string address_of_an_interface() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) < 0) return "";
  std::string found;
  for (const ifaddrs* one = all; one != nullptr && found.empty(); one = one->ifa_next)
    if (one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET &&
        (one->ifa_flags & IFF_UP) && !(one->ifa_flags & IFF_LOOPBACK))
      found = text_of(one->ifa_addr);
  ::freeifaddrs(all);
  return found;
}

Result<std::vector<std::string>> own_hosts(const Options& options) {
  if (options.given("address")) {
    const std::vector<std::string> hosts = options.names("address");
    for (const std::string& host : hosts)
      if (!valid_host(host)) return refusal("--address: " + host + ": not an address");
    if (hosts.empty() || hosts.size() > kMaxAddresses)
      return refusal("--address: no address, or too many");
    return hosts;
  }
  const std::string& bound = options.text("bind-address");
  if (bound != "0.0.0.0" && bound != "::") return std::vector{bound};
  std::string host = address_towards_the_world();
  if (host.empty()) host = address_of_an_interface();
  if (host.empty()) return refusal("address of this node: none found: give --address");
  return std::vector{host};
}

Result<NodeKeyLine> own_line(const Options& options) {
  DROVER_TRY(const std::vector<std::string> hosts, own_hosts(options));
  DROVER_TRY(const NodeKeys keys, NodeKeys::load_or_create(options.text("state-dir") + "/keys"));
  NodeKeyLine line{options.text("node-name"), keys.public_keys(), options.text("zone"), {}};
  for (const std::string& host : hosts)
    line.addresses.push_back({host, options.port("data-port"), options.port("control-port")});
  return line;
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string serial_path(const Options& options) { return options.text("admin-dir") + "/serial"; }

/// Signs `list`, writes it, and remembers it, so that an older one is never built upon.
Status publish(const Options& options, const Membership& list, const Ed25519Key& admin) {
  DROVER_TRY(const std::string file, list.sign(admin));
  DROVER_CHECK(write_durably(options.text("members"), file, 0644));
  return accept_serial(serial_path(options), list);
}

Status init(const Options& options) {
  const std::string& members = options.text("members");
  const std::string& public_path = options.text("admin-key");
  const std::string key_path = options.text("admin-dir") + "/admin.key";
  DROVER_CHECK(make_private_directory(options.text("admin-dir")));
  DROVER_TRY(const OwnedFd lock, lock_directory(options.text("admin-dir")));
  if (exists(members)) return refusal(members + ": exists: this node has a cluster already");
  if (exists(serial_path(options)))
    return refusal(members + ": missing, but " + serial_path(options) +
                   " says that there is a cluster: put the list back, or remove " +
                   options.text("admin-dir") + " to start anew");
  DROVER_TRY(const NodeKeyLine line, own_line(options));
  // A key without a list is what an init that was interrupted left.
  DROVER_TRY(const Ed25519Key admin,
             exists(key_path) ? load_signing_key(key_path) : create_signing_key(key_path));
  if (exists(public_path)) {
    DROVER_TRY(const Ed25519PublicKey trusted, load_admin_public_key(public_path));
    if (trusted != admin.public_key())
      return refusal(public_path + ": exists: this node trusts another administrator");
  }
  DROVER_TRY(Membership list, Membership::create());
  DROVER_CHECK(list.add(line));
  DROVER_CHECK(make_directories(parent_of(public_path), 0755));
  DROVER_CHECK(make_directories(parent_of(members), 0755));
  DROVER_CHECK(store_admin_public_key(public_path, admin.public_key()));
  DROVER_CHECK(publish(options, list, admin));
  std::printf("cluster %s with node %s: %s, serial %llu\n", list.cluster().c_str(),
              line.name.c_str(), members.c_str(), static_cast<unsigned long long>(list.serial()));
  return {};
}

/// Applies `change` to the administrator's list and publishes the result.
template <class Change>
Status change_list(const Options& options, const char* verb, const std::string& name,
                   Change change) {
  DROVER_TRY(const Ed25519Key admin, load_signing_key(options.text("admin-dir") + "/admin.key"));
  DROVER_TRY(const OwnedFd lock, lock_directory(options.text("admin-dir")));
  DROVER_TRY(Membership list, Membership::load(options.text("members"), admin.public_key()));
  DROVER_CHECK(accept_serial(serial_path(options), list));
  DROVER_CHECK(change(list));
  DROVER_CHECK(publish(options, list, admin));
  std::printf("%s %s (%s): %s, serial %llu\n", verb, name.c_str(),
              fingerprint(list.find(name)->keys).c_str(), options.text("members").c_str(),
              static_cast<unsigned long long>(list.serial()));
  return {};
}

Status add(const Options& options) {
  DROVER_TRY(const NodeKeyLine line, parse_node_key(options.operands()[1]));
  return change_list(options, "added", line.name, [&](Membership& list) { return list.add(line); });
}

Status revoke(const Options& options) {
  const std::string& name = options.operands()[1];
  return change_list(options, "revoked", name, [&](Membership& list) { return list.revoke(name); });
}

Status print_key(const Options& options) {
  DROVER_TRY(const NodeKeyLine line, own_line(options));
  std::printf("%s\n", format_node_key(line).c_str());
  return {};
}

using Protocols = std::map<std::string, ProtocolRange>;

/// What nodes have said to this one's migrated; nothing if there is none.
Protocols ask_protocols(const Options& options) {
  Protocols protocols;
  auto client = LocalClient::connect(options.text("run-dir"));
  if (!client) return protocols;
  local::Request request;
  request.mutable_status();
  const auto reply = client->ask_one(request);
  if (!reply) return protocols;
  for (const local::NodeProtocol& one : reply->status().protocols())
    protocols[one.node()] = {one.oldest(), one.newest()};
  return protocols;
}

void print_json(const Membership& list, const Protocols& protocols) {
  Json nodes = Json::array();
  for (const Member& member : list.members()) {
    const auto spoken = protocols.find(member.name);
    Json addresses = Json::array();
    for (const NodeAddress& address : member.addresses)
      addresses.push_back({{"host", address.host},
                           {"data_port", address.data_port},
                           {"control_port", address.control_port}});
    nodes.push_back({{"name", member.name},
                     {"zone", member.zone},
                     {"addresses", std::move(addresses)},
                     {"state", member.revoked ? "revoked" : "member"},
                     {"protocol", spoken == protocols.end()
                                      ? Json(nullptr)
                                      : Json{spoken->second.oldest, spoken->second.newest}},
                     {"fingerprint", fingerprint(member.keys)}});
  }
  const Json all = {
      {"cluster", list.cluster()}, {"serial", list.serial()}, {"nodes", std::move(nodes)}};
  std::printf("%s\n", all.dump(2).c_str());
}

std::string written(const std::vector<NodeAddress>& addresses) {
  std::string text;
  for (const NodeAddress& address : addresses) {
    const bool bracket = address.host.find(':') != std::string::npos;
    text += (text.empty() ? "" : ",") + (bracket ? "[" + address.host + "]" : address.host) + ":" +
            std::to_string(address.data_port);
  }
  return text;
}

std::string written(const std::string& node, const Protocols& protocols) {
  const auto spoken = protocols.find(node);
  if (spoken == protocols.end()) return "?";
  const auto [oldest, newest] = spoken->second;
  return oldest == newest ? std::to_string(newest)
                          : std::to_string(oldest) + "-" + std::to_string(newest);
}

void print_table(const Membership& list, const Protocols& protocols) {
  using Row = std::array<std::string, 6>;
  std::vector<Row> rows = {{"NAME", "ZONE", "ADDRESS", "STATE", "PROTOCOL", "FINGERPRINT"}};
  for (const Member& member : list.members())
    rows.push_back({member.name, member.zone, written(member.addresses),
                    member.revoked ? "revoked" : "member", written(member.name, protocols),
                    fingerprint(member.keys)});
  std::array<std::size_t, std::tuple_size_v<Row> - 1> width{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < width.size(); ++i) width[i] = std::max(width[i], row[i].size());
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < width.size(); ++i)
      std::printf("%-*s  ", static_cast<int>(width[i]), row[i].c_str());
    std::printf("%s\n", row.back().c_str());
  }
}

Status print_nodes(const Options& options) {
  DROVER_TRY(const Ed25519PublicKey admin, load_admin_public_key(options.text("admin-key")));
  DROVER_TRY(const Membership list, Membership::load(options.text("members"), admin));
  const Protocols protocols = ask_protocols(options);
  if (options.yes("json"))
    print_json(list, protocols);
  else
    print_table(list, protocols);
  return {};
}

struct Command {
  const char* name;
  std::size_t operands;  // with the command itself
  Status (*run)(const Options&);
};

constexpr Command kCommands[] = {{"key", 1, print_key},
                                 {"init", 1, init},
                                 {"add", 2, add},
                                 {"revoke", 2, revoke},
                                 {"nodes", 1, print_nodes}};

int run(int argc, char** argv) {
  Options options = declare_options();
  options.parse_or_exit(argc, argv);
  const std::string& word = options.operands()[0];
  const auto* command = std::find_if(std::begin(kCommands), std::end(kCommands),
                                     [&](const Command& c) { return word == c.name; });
  if (command == std::end(kCommands)) {
    std::fprintf(stderr, "mosctl: %s: no such command\n", word.c_str());
    return 2;
  }
  if (options.operands().size() != command->operands) {
    std::fprintf(stderr, "mosctl: %s: %s\n", word.c_str(),
                 command->operands == 1 ? "takes no operand" : "takes one operand");
    return 2;
  }
  Status status = command->run(options);
  if (status && std::fflush(stdout) != 0) status = errno_error("stdout");
  if (status) return 0;
  std::fprintf(stderr, "mosctl: %s\n", status.error().message().c_str());
  return 1;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::run(argc, argv); }
