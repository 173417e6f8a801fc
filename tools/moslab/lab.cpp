#include "tools/moslab/lab.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace drover::moslab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kLabs[] = "/run/moslab";
constexpr char kStateFile[] = "/lab.json";
constexpr char kLockFile[] = "/lock";
constexpr char kNetworkPrefix[] = "10.77.0.";
constexpr double kLeastCpus = 0.01;  // the kernel takes no quota below 1 ms in its period
constexpr double kMostCpus = 4096;

json to_json(const ProcessName& process) {
  return {{"pid", process.pid}, {"start", process.start_ticks}};
}

ProcessName process_from(const json& from) {
  return {from.at("pid").get<pid_t>(), from.at("start").get<std::uint64_t>()};
}

json to_json(const Lab& lab) {
  json hierarchies = json::array(), inits = json::object(), bins = json::object();
  for (const Hierarchy& h : lab.hierarchies)
    hierarchies.push_back({{"mount", h.mount}, {"controllers", h.controllers}, {"base", h.base}});
  for (const auto& [index, init] : lab.inits) inits[std::to_string(index)] = to_json(init);
  const LabSpec& spec = lab.spec;
  for (const auto& [index, bin] : spec.bins) bins[std::to_string(index)] = bin;
  return {{"name", spec.name},
          {"nodes", spec.nodes},
          {"cpus", spec.cpus},
          {"rtt_ms", spec.rtt_ms},
          {"masks", spec.masks},
          {"rate_mbit", spec.rate_mbit},
          {"bin", spec.bin},
          {"bins", bins},
          {"config", spec.config},
          {"daemons", spec.daemons},
          {"cuts", lab.cuts},
          {"hierarchies", hierarchies},
          {"switch", to_json(lab.switch_process)},
          {"inits", inits}};
}

Lab lab_from(const json& from) {
  Lab lab;
  std::map<int, std::string> bins;
  const json others = from.value("bins", json::object());
  for (const auto& [index, bin] : others.items()) bins[std::stoi(index)] = bin;
  lab.spec = {from.at("name"),      from.at("nodes"),  from.at("cpus"), from.at("rtt_ms"),
              from.at("rate_mbit"), from.at("masks"),  from.at("bin"),  bins,
              from.at("config"),    from.at("daemons")};
  for (const json& h : from.at("hierarchies"))
    lab.hierarchies.push_back({h.at("mount"), h.at("controllers"), h.at("base")});
  lab.switch_process = process_from(from.at("switch"));
  for (const auto& [index, init] : from.at("inits").items())
    lab.inits[std::stoi(index)] = process_from(init);
  lab.cuts = from.at("cuts").get<std::vector<Cut>>();
  return lab;
}

}  // namespace

Result<int> node_index(const Lab& lab, const std::string& name) {
  for (int index = 1; index <= lab.spec.nodes; ++index) {
    if (node_name(index) == name) return index;
  }
  return refusal(name + ": no such node; there are n1 to " + node_name(lab.spec.nodes));
}

std::string node_name(int index) { return "n" + std::to_string(index); }

std::string node_address(int index) { return kNetworkPrefix + std::to_string(index); }

std::string lab_dir(const std::string& name) { return std::string(kLabs) + "/" + name; }

std::string disk_dir(const std::string& lab, int index) {
  return lab_dir(lab) + "/disk/" + node_name(index);
}

Result<std::vector<double>> parse_cpus(const std::string& text, int nodes) {
  std::vector<double> cpus;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    std::size_t used = 0;
    double value = 0;
    try {
      value = std::stod(part, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used == 0 || used != part.size() || value < kLeastCpus || value > kMostCpus)
      return refusal("cpus: " + text + ": want numbers of CPUs such as 0.5,1,2");
    cpus.push_back(value);
  }
  if (cpus.size() == 1) cpus.resize(static_cast<std::size_t>(nodes), cpus.front());
  if (cpus.size() != static_cast<std::size_t>(nodes))
    return refusal("cpus: " + text + ": want one figure, or one for each of the " +
                   std::to_string(nodes) + " nodes");
  return cpus;
}

Status check_lab_name(const std::string& name) {
  const bool good = !name.empty() && name.size() <= 32 && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
  if (!good) return refusal("name: '" + name + "': want letters, digits, - and _, at most 32");
  return {};
}

Status create_lab_dir(const std::string& name) {
  if (mkdir(kLabs, 0755) != 0 && errno != EEXIST) return errno_error(std::string("mkdir ") + kLabs);
  if (mkdir(lab_dir(name).c_str(), 0755) == 0) return {};
  if (errno == EEXIST)
    return refusal("lab " + name + ": it is up already; moslab down takes it down");
  return errno_error("mkdir " + lab_dir(name));
}

Status remove_lab_dir(const std::string& name) {
  std::error_code error;
  fs::remove_all(lab_dir(name), error);
  if (error) return Error{error.value(), "remove " + lab_dir(name)};
  rmdir(kLabs);  // the last lab's directory takes the common one with it
  return {};
}

std::vector<std::string> list_labs() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kLabs, error))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

Result<std::string> only_lab() {
  const auto names = list_labs();
  if (names.empty()) return refusal("no lab is up");
  if (names.size() == 1) return names.front();
  std::string all;
  for (const std::string& name : names) all += " " + name;
  return refusal("several labs are up, say which with --name:" + all);
}

Result<Lab> load_lab(const std::string& name) {
  std::ifstream file(lab_dir(name) + kStateFile);
  if (!file) return refusal("lab " + name + ": it is not up");
  try {
    return lab_from(json::parse(file));
  } catch (const json::exception&) {
    return refusal("lab " + name + ": its state file is damaged; moslab down takes it down");
  }
}

Status save_lab(const Lab& lab) {
  // By rename, so that a reader never sees half of it.
  const std::string path = lab_dir(lab.spec.name) + kStateFile;
  const std::string fresh = path + ".new";
  std::ofstream file(fresh);
  file << to_json(lab).dump(2) << "\n";
  file.close();
  if (!file || rename(fresh.c_str(), path.c_str()) != 0) return errno_error("write " + path);
  return {};
}

Result<OwnedFd> lock_lab(const std::string& name) {
  const std::string path = lab_dir(name) + kLockFile;
  OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) {
    if (errno == ENOENT) return refusal("lab " + name + ": it is not up");
    return errno_error("open " + path);
  }
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return errno_error("lock " + path);
  }
  return fd;
}

}  // namespace drover::moslab
