#include "common/config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "common/log.h"

namespace drover {
namespace {

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override { path_ = ::testing::TempDir() + "drover-config-test.conf"; }
  void TearDown() override { std::remove(path_.c_str()); }

  void write(const std::string& text) { std::ofstream(path_) << text; }

  Result<Options::Outcome> parse(Options& options, std::vector<const char*> arguments,
                                 bool with_file = true) {
    arguments.insert(arguments.begin(), "prog");
    if (with_file) {
      arguments.insert(arguments.begin() + 1, "--config");
      arguments.insert(arguments.begin() + 2, path_.c_str());
    }
    return options.parse(static_cast<int>(arguments.size()), arguments.data());
  }

  Options daemon() {
    Options options("prog", "[options]", "Does things.");
    options.use("node-name").use("zone").use("data-port").use("allow-root-jobs").use("guest-zones");
    options.use("max-guests").use("log-level");
    return options;
  }

  std::string path_;
};

TEST_F(ConfigTest, CommandLineGoesOverFileOverDefaults) {
  write("# a comment\nnode-name = filename\ndata-port=9000\n\nzone = lab # why\n");
  Options options = daemon();
  const auto outcome = parse(options, {"--node-name", "linename"});
  ASSERT_TRUE(outcome) << outcome.error().message();
  EXPECT_EQ(options.text("node-name"), "linename");
  EXPECT_EQ(options.port("data-port"), 9000);
  EXPECT_EQ(options.text("zone"), "lab");
  EXPECT_EQ(options.number("max-guests"), 256);
  EXPECT_TRUE(options.given("data-port"));
  EXPECT_FALSE(options.given("max-guests"));
  EXPECT_FALSE(options.yes("allow-root-jobs"));
}

TEST_F(ConfigTest, ZonesDefaultToTheNodesOwn) {
  write("zone = lab\n");
  Options options = daemon();
  ASSERT_TRUE(parse(options, {}));
  EXPECT_EQ(options.names("guest-zones"), std::vector<std::string>{"lab"});
  write("zone = lab\nguest-zones = lab, rented far\n");
  ASSERT_TRUE(parse(options, {}));
  EXPECT_EQ(options.names("guest-zones"), (std::vector<std::string>{"lab", "rented", "far"}));
}

TEST_F(ConfigTest, KeysOfOtherProgramsAreNoError) {
  write("max-guests = 3\ncache-size-mb = not-checked-here\n");
  Options options = daemon();
  EXPECT_TRUE(parse(options, {}));
}

TEST_F(ConfigTest, MisspeltKeysAreAnErrorThatNamesThem) {
  write("data-prot = 1\n");
  Options options = daemon();
  const auto outcome = parse(options, {});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().message(), path_ + ": data-prot: unknown key");
}

TEST_F(ConfigTest, BadValuesAreOneLine) {
  const std::pair<std::string, std::string> cases[] = {
      {"data-port = 70000\n", ": data-port: must be a whole number from 1 to 65535"},
      {"data-port = 12x\n", ": data-port: must be a whole number from 1 to 65535"},
      {"data-port = -1\n", ": data-port: must be a whole number from 1 to 65535"},
      {"data-port =\n", ": data-port: must be a whole number from 1 to 65535"},
      {"allow-root-jobs = maybe\n", ": allow-root-jobs: must be yes or no"},
      {"zone = a\nzone = b\n", ": zone: set twice"},
      {"just words\n", ": just words: not of the form key = value"},
  };
  for (const auto& [text, expected] : cases) {
    write(text);
    Options options = daemon();
    const auto outcome = parse(options, {});
    ASSERT_FALSE(outcome) << text;
    EXPECT_EQ(outcome.error().message(), path_ + expected);
  }
  write("node-name = Not/A/Name\n");
  Options options = daemon();
  EXPECT_FALSE(parse(options, {}));
}

TEST_F(ConfigTest, ASectionIsNotSilentlyIgnored) {
  write("[drover]\ndata-port = 1\n");
  Options options = daemon();
  EXPECT_FALSE(parse(options, {}));
}

TEST_F(ConfigTest, AFileThatIsNamedMustExist) {
  Options options = daemon();
  const auto outcome = parse(options, {});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().message(), path_ + ": No such file or directory");
}

TEST_F(ConfigTest, AnEmptyFileSetsNothing) {
  write("");
  Options options("prog", "", "");
  options.use("data-port");
  const auto outcome = parse(options, {});
  ASSERT_TRUE(outcome) << outcome.error().message();
  EXPECT_EQ(options.port("data-port"), 7471);
}

TEST_F(ConfigTest, BadOptionsAreOneLine) {
  Options options = daemon();
  EXPECT_EQ(parse(options, {"--nod-name=x"}, false).error().message(),
            "--nod-name=x: unknown option");
  EXPECT_EQ(parse(options, {"--node"}, false).error().message(), "--node: unknown option");
  EXPECT_EQ(parse(options, {"--node-name"}, false).error().message(),
            "--node-name: value missing or not wanted");
  EXPECT_EQ(parse(options, {"--data-port=x"}, false).error().message(),
            "--data-port: must be a whole number from 1 to 65535");
  EXPECT_EQ(parse(options, {"--zone=a", "--zone=b"}, false).error().message(),
            "--zone: given twice");
  EXPECT_EQ(parse(options, {"extra"}, false).error().message(), "extra: one operand too many");
}

TEST_F(ConfigTest, HelpAndVersionNeedNothingElse) {
  Options options = daemon();
  options.operands(2, 2);
  EXPECT_EQ(*parse(options, {"--help"}, false), Options::Outcome::kHelp);
  EXPECT_EQ(*parse(options, {"--version"}, false), Options::Outcome::kVersion);
  EXPECT_NE(options.help().find("--data-port PORT"), std::string::npos) << options.help();
  EXPECT_NE(options.help().find("Usage: prog [options]"), std::string::npos);
}

TEST_F(ConfigTest, OptionsOfACommandAreTheCommandsOwn) {
  Options options("mosrun", "[options] PROGRAM [ARG...]", "Runs.");
  options.add({"node", 'r', OptionKind::kText, "NODE", "", "start there"});
  options.add({"home", 'h', OptionKind::kSwitch, "", "", "start at home"});
  options.operands(1, SIZE_MAX, true);
  auto outcome = parse(options, {"-r", "n2", "ls", "-l", "--help", "-r", "x", "--", "y"}, false);
  ASSERT_TRUE(outcome) << outcome.error().message();
  EXPECT_EQ(*outcome, Options::Outcome::kRun);
  EXPECT_EQ(options.text("node"), "n2");
  EXPECT_FALSE(options.yes("home"));
  EXPECT_EQ(options.operands(),
            (std::vector<std::string>{"ls", "-l", "--help", "-r", "x", "--", "y"}));
  ASSERT_TRUE(parse(options, {"-hrn3", "--", "-odd", "--name"}, false));
  EXPECT_TRUE(options.yes("home"));
  EXPECT_EQ(options.text("node"), "n3");
  EXPECT_EQ(options.operands(), (std::vector<std::string>{"-odd", "--name"}));
  EXPECT_FALSE(parse(options, {"-r", "n2"}, false));
}

TEST_F(ConfigTest, AskingForAnUndeclaredOptionIsAProgrammingError) {
  Options options = daemon();
  EXPECT_THROW(options.text("state-dir"), std::logic_error);
  EXPECT_THROW(options.use("no-such-key"), std::logic_error);
}

TEST_F(ConfigTest, EveryKeyOfTheTableHasAValidDefault) {
  Options options("prog", "", "");
  for (const OptionSpec& spec : file_keys()) options.use(spec.name);
  write("node-name = n1\n");  // the machine's host name may be anything
  const auto defaults = parse(options, {});
  ASSERT_TRUE(defaults) << defaults.error().message();
  std::string text;
  for (const OptionSpec& spec : file_keys())
    text += spec.name + "=" + options.text(spec.name) + "\n";
  write(text);
  const auto outcome = parse(options, {});
  EXPECT_TRUE(outcome) << outcome.error().message();
  EXPECT_TRUE(parse_log_level(options.text("log-level")));
}

TEST(LogTest, APeersTextCannotForgeALine) {
  ::testing::internal::CaptureStderr();
  log_init("prog", LogLevel::kInfo);
  log_set_node("n1");
  log_warn("peer said {}", "x\nprog[n1] error: forged\x1b[2J");
  log_debug("not shown");
  const std::string out = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(out.find("prog[n1] warning: peer said x\\x0aprog[n1] error: forged\\x1b[2J\n"),
            std::string::npos)
      << out;
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << out;
}

}  // namespace
}  // namespace drover
