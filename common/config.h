// A program's options: command line over /etc/drover/drover.conf over defaults.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace drover {

inline constexpr char kDefaultConfigPath[] = "/etc/drover/drover.conf";

enum class OptionKind {
  kSwitch,    ///< takes no value; command line only
  kText,      ///< any text
  kNodeName,  ///< a name as membership.h wants it, for nodes and for zones
  kNumber,    ///< a whole number from `least` to `most`
  kYesNo,     ///< yes or no
  kNames,     ///< names with commas or blanks between them
};

struct OptionSpec {
  std::string name;  ///< the long name, without dashes
  char letter = 0;   ///< the short name, or 0
  OptionKind kind = OptionKind::kText;
  std::string value_name;  ///< for --help, for instance "PATH"
  std::string fallback;    ///< what it is when nobody says; "@hostname" and "@zone" stand for these
  std::string help;
  std::uint64_t least = 0;
  std::uint64_t most = UINT64_MAX;
};

/// Every key that the file may have, of whatever program: a key that is not here is a
/// misspelling, and an error for all of them.
std::span<const OptionSpec> file_keys();

/// Declares what a program understands, parses, and answers. Asking for an option that was
/// not declared is a programming error (std::logic_error).
class Options {
 public:
  enum class Outcome { kRun, kHelp, kVersion };

  /// `usage` is what follows the program's name in "Usage:"; `summary` one sentence.
  Options(std::string program, std::string usage, std::string summary);

  /// An option of the command line only. An option that has no value and an empty fallback
  /// reads as empty text, and `given` is false.
  Options& add(OptionSpec spec);
  /// A key of file_keys(): allowed in the file, and on the command line as --name (-letter).
  Options& use(std::string_view key, char letter = 0);
  /// How many operands the program takes. With `rest_is_command` options end at the first
  /// operand: what follows belongs to the command that it names.
  Options& operands(std::size_t at_least, std::size_t at_most, bool rest_is_command = false);

  /// Reads the command line (argv[0] is skipped) and, if the program uses a key of the file,
  /// the file: --config PATH, or kDefaultConfigPath if it exists. Every value of an option
  /// that this program declares is checked. Errors are one line for "NAME: " in front.
  Result<Outcome> parse(int argc, const char* const* argv);
  /// The same for programs' main: prints --help and --version and exits 0; prints
  /// "NAME: what: why" and exits 2 on an error.
  void parse_or_exit(int argc, const char* const* argv);

  /// Whether the command line or the file set it.
  bool given(std::string_view name) const;
  /// Any option's value as text.
  const std::string& text(std::string_view name) const;
  std::uint64_t number(std::string_view name) const;
  std::uint16_t port(std::string_view name) const;
  /// A switch that was given, or a kYesNo that is yes.
  bool yes(std::string_view name) const;
  std::vector<std::string> names(std::string_view name) const;
  const std::vector<std::string>& operands() const { return operand_values_; }

  const std::string& program() const { return program_; }
  std::string help() const;

 private:
  struct Value {
    std::string text;
    bool given = false;
  };

  const OptionSpec& spec(std::string_view name) const;
  Status read_command_line(int argc, const char* const* argv);
  Status read_file();
  Status settle();
  void set(const std::string& name, std::string text);

  std::string program_;
  std::string usage_;
  std::string summary_;
  std::vector<OptionSpec> specs_;
  std::size_t file_specs_ = 0;  // how many of specs_ are keys of the file
  std::size_t least_operands_ = 0;
  std::size_t most_operands_ = 0;
  bool rest_is_command_ = false;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> operand_values_;
};

/// Reads the text of a configuration file, `path` being its name in errors. Gives the keys
/// and values that it sets; refuses keys that are not in file_keys(). For Options and tests.
Result<std::map<std::string, std::string>> parse_config(const std::string& text,
                                                        const std::string& path);

}  // namespace drover
