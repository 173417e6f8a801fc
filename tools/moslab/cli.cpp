#include "tools/moslab/cli.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <filesystem>
#include <map>
#include <sstream>

namespace drover::moslab {
namespace {

namespace po = boost::program_options;
namespace fs = std::filesystem;

constexpr int kMostNodes = 100;

/// What each command takes besides options: the least and the largest number of words.
struct Shape {
  std::size_t least;
  std::size_t most;
};
const std::map<std::string, Shape> kVerbs = {
    {"up", {1, 1}},   {"exec", {1, 1}},  {"cut", {2, 2}},    {"heal", {0, 2}},
    {"kill", {1, 1}}, {"start", {1, 1}}, {"status", {0, 0}}, {"down", {0, 0}},
};

po::options_description options_of(const std::string& verb) {
  po::options_description options;
  auto add = options.add_options();
  add("name", po::value<std::string>());
  if (verb == "up") {
    add("cpus", po::value<std::string>());
    add("rtt", po::value<double>());
    add("rate", po::value<double>());
    add("mask", po::value<std::vector<std::string>>());
    add("bin", po::value<std::string>());
    add("bin-of", po::value<std::vector<std::string>>());
    add("conf", po::value<std::vector<std::string>>());
    add("no-daemons", po::bool_switch());
  }
  if (verb == "exec") add("user", po::value<uid_t>());
  if (verb == "status") add("json", po::bool_switch());
  if (verb == "down") add("all", po::bool_switch());
  return options;
}

bool given(const po::variables_map& values, const char* name) {
  return values.count(name) && !values[name].defaulted();
}

bool switched(const po::variables_map& values, const char* name) {
  return values.count(name) && values[name].as<bool>();
}

Result<double> positive(const po::variables_map& values, const char* name) {
  if (!given(values, name)) return 0.0;
  const double value = values[name].as<double>();
  if (!(value > 0 && value < 1e6)) return refusal(std::string(name) + ": want a number above 0");
  return value;
}

/// Where this program is, its libraries and its fellows are.
std::string own_dir() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path();
}

Result<std::vector<std::string>> canonical_dirs(const std::vector<std::string>& dirs,
                                                const std::string& option) {
  std::vector<std::string> result;
  for (const std::string& dir : dirs) {
    std::error_code error;
    const fs::path path = fs::canonical(dir, error);
    if (error || !fs::is_directory(path))
      return refusal(option + ": " + dir + ": no such directory");
    if (path == "/") return refusal(option + ": / is too much");
    result.push_back(path);
  }
  return result;
}

/// "n2=DIR" and the like.
Result<std::map<int, std::string>> parse_bins(const std::vector<std::string>& texts, int nodes) {
  std::map<int, std::string> bins;
  for (const std::string& text : texts) {
    const auto equals = text.find('=');
    int index = 1;
    while (index <= nodes && text.substr(0, equals) != node_name(index)) ++index;
    if (equals == std::string::npos || index > nodes)
      return refusal("bin-of: " + text + ": want NODE=DIR with a node of the lab");
    DROVER_TRY(const auto dirs, canonical_dirs({text.substr(equals + 1)}, "bin-of"));
    bins[index] = dirs.front();
  }
  return bins;
}

Result<LabSpec> lab_spec(const po::variables_map& values, const std::string& count) {
  LabSpec spec;
  if (given(values, "name")) spec.name = values["name"].as<std::string>();
  std::istringstream number(count);
  if (!(number >> spec.nodes) || !number.eof() || spec.nodes < 1 || spec.nodes > kMostNodes)
    return refusal("up: " + count + ": want a number of nodes from 1 to " +
                   std::to_string(kMostNodes));
  if (given(values, "cpus")) {
    DROVER_TRY(spec.cpus, parse_cpus(values["cpus"].as<std::string>(), spec.nodes));
  }
  DROVER_TRY(spec.rtt_ms, positive(values, "rtt"));
  DROVER_TRY(spec.rate_mbit, positive(values, "rate"));
  if (given(values, "mask")) {
    DROVER_TRY(spec.masks, canonical_dirs(values["mask"].as<std::vector<std::string>>(), "mask"));
  }
  const std::string bin = given(values, "bin") ? values["bin"].as<std::string>() : own_dir();
  DROVER_TRY(auto bins, canonical_dirs({bin}, "bin"));
  spec.bin = bins.front();
  if (given(values, "bin-of")) {
    const auto texts = values["bin-of"].as<std::vector<std::string>>();
    DROVER_TRY(spec.bins, parse_bins(texts, spec.nodes));
  }
  if (given(values, "conf")) spec.config = values["conf"].as<std::vector<std::string>>();
  spec.daemons = !switched(values, "no-daemons");
  return spec;
}

/// Takes `--` and what follows it off `args`.
std::vector<std::string> take_program(std::vector<std::string>& args) {
  const auto dashes = std::ranges::find(args, "--");
  if (dashes == args.end()) return {};
  std::vector<std::string> program(dashes + 1, args.end());
  args.erase(dashes, args.end());
  return program;
}

/// The words of a command line, and the values of its options.
Result<std::vector<std::string>> parse_options(const std::string& verb,
                                               const std::vector<std::string>& args,
                                               po::variables_map& values) {
  try {
    po::options_description options = options_of(verb);
    options.add_options()("words", po::value<std::vector<std::string>>());
    po::positional_options_description positional;
    positional.add("words", -1);
    const auto style =
        po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::store(
        po::command_line_parser(args).options(options).positional(positional).style(style).run(),
        values);
  } catch (const po::error& error) {
    return refusal(verb + ": " + error.what());
  }
  if (!given(values, "words")) return std::vector<std::string>{};
  return values["words"].as<std::vector<std::string>>();
}

}  // namespace

Result<Command> parse_command_line(const std::vector<std::string>& args) {
  Command command;
  std::vector<std::string> rest(args);
  command.program = take_program(rest);
  auto asked = [&](const char* option) { return std::ranges::find(rest, option) != rest.end(); };
  if (rest.empty()) return refusal("no command given; see moslab --help");
  if (asked("--help") || asked("--version")) {
    command.verb = asked("--help") ? "help" : "version";
    return command;
  }
  command.verb = rest.front();
  rest.erase(rest.begin());
  const auto shape = kVerbs.find(command.verb);
  if (shape == kVerbs.end()) return refusal(command.verb + ": no such command; see moslab --help");

  po::variables_map values;
  DROVER_TRY(command.words, parse_options(command.verb, rest, values));
  const std::size_t count = command.words.size();
  if (count < shape->second.least || count > shape->second.most ||
      (command.verb == "heal" && count == 1))
    return refusal(command.verb + ": wrong number of arguments; see moslab --help");
  if (command.verb == "exec" && command.program.empty())
    return refusal("exec: no command to run; want exec NODE -- COMMAND [ARG...]");
  if (command.verb != "exec" && !command.program.empty())
    return refusal(command.verb + ": takes no -- COMMAND");

  if (given(values, "name")) {
    command.lab = values["name"].as<std::string>();
    DROVER_CHECK(check_lab_name(*command.lab));
  }
  if (command.verb == "up") {
    DROVER_TRY(command.spec, lab_spec(values, command.words.front()));
  }
  if (given(values, "user")) command.user = values["user"].as<uid_t>();
  command.json = switched(values, "json");
  command.all = switched(values, "all");
  return command;
}

std::string usage() {
  return R"(moslab: a cluster on one machine; its nodes are called n1, n2, ...

  moslab up N [--cpus A,B,..] [--rtt MS] [--rate MBIT] [--mask DIR]... [--bin DIR]
              [--bin-of NODE=DIR]... [--conf 'KEY = VALUE']... [--no-daemons]
  moslab exec NODE [--user UID] -- COMMAND [ARG...]
  moslab cut NODE NODE        drop everything between two nodes
  moslab heal [NODE NODE]     undo one cut, or all
  moslab kill NODE            power cut
  moslab start NODE           boot a node that was killed
  moslab status [--json]
  moslab down [--all]

  --name LAB   which lab; only needed when there are several at a time
  --cpus       CPU time that each node may use, in CPUs (one figure: for each node)
  --rtt        milliseconds added to every round trip (needs a kernel with netem)
  --rate       megabits per second of every node's link, each way
  --mask       a directory that is empty on every node but n1
  --bin        the programs, /usr/lib/drover on every node (default: moslab's own directory)
  --bin-of     other programs for one node, such as those of another version
  --conf       a line for every node's /etc/drover/drover.conf
)";
}

}  // namespace drover::moslab
