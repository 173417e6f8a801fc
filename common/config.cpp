#include "common/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "common/names.h"
#include "common/protocol.h"

namespace drover {
namespace {

namespace po = boost::program_options;

constexpr std::uint64_t kMaxUid = 4294967294;

const std::vector<OptionSpec>& key_table() {
  using enum OptionKind;
  static const std::vector<OptionSpec> table = {
      // What this node is.
      {"node-name", 0, kNodeName, "NAME", "@hostname", "name of this node"},
      {"zone", 0, kNodeName, "ZONE", "default", "zone of this node, for trust"},
      {"bind-address", 0, kText, "ADDRESS", "0.0.0.0", "address to listen on"},
      {"data-port", 0, kNumber, "PORT", "7471", "TCP port of the data plane", 1, 65535},
      {"control-port", 0, kNumber, "PORT", "7472", "TCP port of the control bus", 1, 65535},
      // Where things are.
      {"state-dir", 0, kText, "DIR", "/var/lib/drover", "keys and other lasting state"},
      {"run-dir", 0, kText, "DIR", "/run/drover", "local socket and other passing state"},
      {"cache-dir", 0, kText, "DIR", "/var/cache/drover", "contents of files of other nodes"},
      {"members", 0, kText, "PATH", "/etc/drover/members", "the signed membership list"},
      {"admin-key", 0, kText, "PATH", "/etc/drover/admin.pub", "public key that signs the list"},
      // Who runs what.
      {"deputy-user", 0, kText, "USER", "drover", "user that deputies run as"},
      {"guest-uid-base", 0, kNumber, "UID", "1879048192", "first throwaway uid of guests", 1000,
       kMaxUid},
      {"guest-uid-count", 0, kNumber, "N", "65536", "how many throwaway uids there are", 1,
       kMaxUid},
      // Policy.
      {"guest-zones", 0, kNames, "ZONES", "@zone", "zones that this node takes guests from"},
      {"send-zones", 0, kNames, "ZONES", "@zone", "zones that own jobs may go to"},
      {"allow-root-jobs", 0, kYesNo, "yes|no", "no", "whether jobs of uid 0 may leave"},
      {"lease-seconds", 0, kNumber, "S", "60", "own jobs are held so long for a silent node", 8,
       3600},
      {"newest-protocol", 0, kNumber, "N", std::to_string(kNewestProtocol),
       "speak no newer version of the protocol with others", kOldestProtocol, kNewestProtocol},
      {"block", 0, kYesNo, "yes|no", "no", "take no guests"},
      {"max-guests", 0, kNumber, "N", "256", "most guest trees at a time", 0, 65536},
      {"cache-size-mb", 0, kNumber, "MB", "4096", "most space that the cache takes", 1, 1U << 30},
      // What is said, and faults for tests.
      {"log-level", 0, kText, "LEVEL", "info", "debug, info, warn or error"},
      {"fault", 0, kText, "SPEC", "", "for tests only: fail or wait at a named step"},
  };
  return table;
}

const OptionSpec* find_spec(std::span<const OptionSpec> specs, std::string_view name) {
  for (const OptionSpec& spec : specs)
    if (spec.name == name) return &spec;
  return nullptr;
}

std::vector<std::string> split_names(std::string_view text) {
  std::vector<std::string> names(1);
  for (const char c : text) {
    if (c != ',' && c != ' ' && c != '\t')
      names.back() += c;
    else if (!names.back().empty())
      names.emplace_back();
  }
  if (names.back().empty()) names.pop_back();
  return names;
}

bool read_number(std::string_view text, std::uint64_t& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

/// "" if `text` is a value that `spec` allows, else why not.
std::string objection(const OptionSpec& spec, const std::string& text) {
  std::uint64_t value = 0;
  switch (spec.kind) {
    case OptionKind::kSwitch:
    case OptionKind::kText:
      return "";
    case OptionKind::kNodeName:
      return valid_name(text) ? "" : "not a name of small letters, digits, dots and dashes";
    case OptionKind::kYesNo:
      return text == "yes" || text == "no" ? "" : "must be yes or no";
    case OptionKind::kNames:
      for (const std::string& name : split_names(text))
        if (!valid_name(name)) return name + ": not a name of small letters, digits, dots, dashes";
      return "";
    case OptionKind::kNumber:
      break;
  }
  if (read_number(text, value) && value >= spec.least && value <= spec.most) return "";
  if (spec.most == UINT64_MAX) return fmt::format("must be a whole number from {}", spec.least);
  return fmt::format("must be a whole number from {} to {}", spec.least, spec.most);
}

/// The host name as a node's name: in small letters, dashes for what a name cannot have.
Result<std::string> host_name() {
  char host[HOST_NAME_MAX + 1] = {};
  if (::gethostname(host, sizeof host - 1) < 0) return errno_error("node-name");
  std::string name;
  for (const char c : std::string_view(host)) {
    const char small = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool allowed = valid_name(std::string_view(&small, 1)) || small == '.';
    if (allowed || !name.empty()) name += allowed ? small : '-';
  }
  name = name.substr(0, kMaxNameLength);
  if (!valid_name(name)) return refusal("node-name: the host name is none, so one must be given");
  return name;
}

po::options_description describe(std::span<const OptionSpec> specs, const std::string& title) {
  po::options_description description(title);
  for (const OptionSpec& spec : specs) {
    const std::string name = spec.letter ? spec.name + "," + spec.letter : spec.name;
    std::string help = spec.help;
    if (!spec.fallback.empty() && spec.fallback[0] != '@') help += " (" + spec.fallback + ")";
    if (spec.kind == OptionKind::kSwitch)
      description.add_options()(name.c_str(), po::bool_switch(), help.c_str());
    else
      description.add_options()(name.c_str(), po::value<std::string>()->value_name(spec.value_name),
                                help.c_str());
  }
  return description;
}

/// Options end at the first operand, as sudo(8) and nice(1) have it.
std::vector<po::option> command_after_options(std::vector<std::string>& arguments) {
  std::vector<po::option> found;
  if (arguments.empty() || (arguments[0].size() > 1 && arguments[0][0] == '-')) return found;
  for (std::string& argument : arguments) {
    po::option operand;
    operand.value.push_back(argument);
    operand.original_tokens.push_back(argument);
    operand.position_key = std::numeric_limits<int>::max();
    found.push_back(operand);
  }
  arguments.clear();
  return found;
}

constexpr char kOperand[] = "drover-operand";

/// The keys and values of a command line, operands as kOperand, or the library's complaint.
Result<po::parsed_options> split_command_line(int argc, const char* const* argv,
                                              const po::options_description& visible,
                                              bool rest_is_command) {
  po::options_description all;
  all.add(visible).add_options()(kOperand, po::value<std::vector<std::string>>());
  po::positional_options_description positions;
  positions.add(kOperand, -1);
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  po::command_line_parser parser(arguments);
  parser.options(all).positional(positions).style(po::command_line_style::unix_style &
                                                  ~po::command_line_style::allow_guessing);
  if (rest_is_command) parser.extra_style_parser(command_after_options);
  try {
    po::parsed_options parsed = parser.run();
    parsed.description = nullptr;  // it points to `all`, which goes
    return parsed;
  } catch (const po::unknown_option& e) {
    return refusal(e.get_option_name() + ": unknown option");
  } catch (const po::error_with_option_name& e) {
    return refusal(e.get_option_name() + ": " +
                   (dynamic_cast<const po::invalid_command_line_syntax*>(&e) ? "value missing or "
                                                                               "not wanted"
                                                                             : "bad value"));
  } catch (const po::error& e) {
    return refusal(std::string("command line: ") + e.what());
  }
}

}  // namespace

std::span<const OptionSpec> file_keys() { return key_table(); }

Result<std::map<std::string, std::string>> parse_config(const std::string& text,
                                                        const std::string& path) {
  std::map<std::string, std::string> values;
  std::istringstream stream(text);
  try {
    // Every key is registered so that the library says which one it does not know.
    const po::options_description known = describe(file_keys(), "");
    for (const po::option& option : po::parse_config_file(stream, known).options) {
      const std::string value = option.value.empty() ? "" : option.value[0];
      if (!values.emplace(option.string_key, value).second)
        return refusal(path + ": " + option.string_key + ": set twice");
    }
  } catch (const po::unknown_option& e) {
    return refusal(path + ": " + e.get_option_name() + ": unknown key");
  } catch (const po::invalid_config_file_syntax& e) {
    return refusal(path + ": " + e.tokens() + ": not of the form key = value");
  } catch (const po::error& e) {
    return refusal(path + ": " + e.what());
  }
  return values;
}

Options::Options(std::string program, std::string usage, std::string summary)
    : program_(std::move(program)), usage_(std::move(usage)), summary_(std::move(summary)) {}

Options& Options::add(OptionSpec spec) {
  if (find_spec(specs_, spec.name)) throw std::logic_error("option declared twice: " + spec.name);
  specs_.push_back(std::move(spec));
  return *this;
}

Options& Options::use(std::string_view key, char letter) {
  const OptionSpec* known = find_spec(file_keys(), key);
  if (known == nullptr) throw std::logic_error("no such key of the file: " + std::string(key));
  OptionSpec spec = *known;
  spec.letter = letter;
  file_specs_ += 1;
  return add(std::move(spec));
}

Options& Options::operands(std::size_t at_least, std::size_t at_most, bool rest_is_command) {
  least_operands_ = at_least;
  most_operands_ = at_most;
  rest_is_command_ = rest_is_command;
  return *this;
}

Result<Options::Outcome> Options::parse(int argc, const char* const* argv) {
  values_.clear();
  operand_values_.clear();
  DROVER_CHECK(read_command_line(argc, argv));
  if (values_.count("help")) return Outcome::kHelp;
  if (values_.count("version")) return Outcome::kVersion;
  if (operand_values_.size() < least_operands_)
    return refusal("usage: " + program_ + " " + usage_.substr(0, usage_.find('\n')));
  if (operand_values_.size() > most_operands_)
    return refusal(operand_values_[most_operands_] + ": one operand too many");
  if (file_specs_ > 0) DROVER_CHECK(read_file());
  DROVER_CHECK(settle());
  return Outcome::kRun;
}

void Options::parse_or_exit(int argc, const char* const* argv) {
  const Result<Outcome> outcome = parse(argc, argv);
  if (!outcome) {
    std::fprintf(stderr, "%s: %s\n", program_.c_str(), outcome.error().message().c_str());
    std::exit(2);
  }
  if (*outcome == Outcome::kRun) return;
  if (*outcome == Outcome::kHelp)
    std::fputs(help().c_str(), stdout);
  else
    std::printf("%s (Drover) %s\n", program_.c_str(), DROVER_VERSION);
  if (std::fflush(stdout) != 0) {
    std::fprintf(stderr, "%s: stdout: %s\n", program_.c_str(), std::strerror(errno));
    std::exit(1);
  }
  std::exit(0);
}

std::string Options::help() const {
  std::vector<OptionSpec> all = specs_;
  if (file_specs_ > 0) {
    const std::string help = std::string("configuration file (") + kDefaultConfigPath + ")";
    all.push_back({"config", 0, OptionKind::kText, "PATH", "", help});
  }
  all.push_back({"help", 0, OptionKind::kSwitch, "", "", "print this and exit"});
  all.push_back({"version", 0, OptionKind::kSwitch, "", "", "print the version and exit"});
  std::ostringstream out;
  out << "Usage: " << program_ << " " << usage_ << "\n"
      << summary_ << "\n\n"
      << describe(all, "Options");
  return out.str();
}

Status Options::read_command_line(int argc, const char* const* argv) {
  std::vector<OptionSpec> all = specs_;
  all.push_back({"config", 0, OptionKind::kText, "PATH", "", ""});
  if (file_specs_ == 0) all.pop_back();
  all.push_back({"help", 0, OptionKind::kSwitch, "", "", ""});
  all.push_back({"version", 0, OptionKind::kSwitch, "", "", ""});
  DROVER_TRY(const po::parsed_options parsed,
             split_command_line(argc, argv, describe(all, ""), rest_is_command_));
  for (const po::option& option : parsed.options) {
    if (option.string_key == kOperand) {
      operand_values_.push_back(option.value.at(0));
      continue;
    }
    const OptionSpec* spec = find_spec(all, option.string_key);
    if (spec == nullptr) return refusal(option.string_key + ": unknown option");
    if (spec->kind != OptionKind::kSwitch && values_.count(spec->name))
      return refusal("--" + spec->name + ": given twice");
    const std::string value = option.value.empty() ? "" : option.value[0];
    if (const std::string why = objection(*spec, value); !why.empty())
      return refusal("--" + spec->name + ": " + why);
    set(spec->name, value);
  }
  return {};
}

Status Options::read_file() {
  const auto named = values_.find("config");
  const std::string path = named == values_.end() ? kDefaultConfigPath : named->second.text;
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT && named == values_.end()) return {};
    return errno_error(path);
  }
  std::error_code no_code;
  if (std::filesystem::is_directory(path, no_code)) return Error{EISDIR, path};
  const std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) return errno_error(path);
  DROVER_TRY(const auto values, parse_config(text, path));
  for (const auto& [key, value] : values) {
    if (values_.count(key)) continue;  // the command line said it
    const OptionSpec* spec = find_spec(file_keys(), key);
    const bool ours = find_spec(specs_, key) != nullptr;
    if (const std::string why = objection(*spec, value); ours && !why.empty())
      return refusal(path + ": " + key + ": " + why);
    set(key, value);
  }
  return {};
}

/// Gives every option that nobody set its fallback.
Status Options::settle() {
  for (const OptionSpec& spec : specs_) {
    if (values_.count(spec.name)) continue;
    std::string text = spec.fallback;
    if (text == "@hostname") {
      DROVER_TRY(text, host_name());
    } else if (text == "@zone") {
      // The file may set the zone though this program does not declare it.
      const auto zone = values_.find("zone");
      text = zone == values_.end() ? find_spec(file_keys(), "zone")->fallback : zone->second.text;
    }
    values_[spec.name].text = text;
  }
  return {};
}

void Options::set(const std::string& name, std::string text) {
  values_[name] = {std::move(text), true};
}

const OptionSpec& Options::spec(std::string_view name) const {
  const OptionSpec* found = find_spec(specs_, name);
  if (found == nullptr) throw std::logic_error("option not declared: " + std::string(name));
  return *found;
}

bool Options::given(std::string_view name) const {
  const auto value = values_.find(spec(name).name);
  return value != values_.end() && value->second.given;
}

const std::string& Options::text(std::string_view name) const {
  const auto value = values_.find(spec(name).name);
  if (value == values_.end()) throw std::logic_error("options not parsed yet");
  return value->second.text;
}

std::uint64_t Options::number(std::string_view name) const {
  std::uint64_t value = 0;
  const std::string& written = text(name);
  if (!written.empty() && !read_number(written, value))
    throw std::logic_error("option is not a number: " + std::string(name));
  return value;
}

std::uint16_t Options::port(std::string_view name) const {
  return static_cast<std::uint16_t>(number(name));
}

bool Options::yes(std::string_view name) const {
  return spec(name).kind == OptionKind::kSwitch ? given(name) : text(name) == "yes";
}

std::vector<std::string> Options::names(std::string_view name) const {
  return split_names(text(name));
}

}  // namespace drover
