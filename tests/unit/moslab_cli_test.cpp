#include <gtest/gtest.h>

#include <filesystem>

#include "tools/moslab/cli.h"

namespace drover::moslab {
namespace {

Command parsed(const std::vector<std::string>& args) {
  auto command = parse_command_line(args);
  EXPECT_TRUE(command) << command.error().message();
  return command ? *command : Command{};
}

std::string refused(const std::vector<std::string>& args) {
  auto command = parse_command_line(args);
  return command ? "accepted" : command.error().message();
}

TEST(MoslabCommandLine, UpTakesAllThatDescribesALab) {
  const Command command = parsed({"up", "2", "--name", "x-1", "--cpus", "0.5,2", "--rtt", "3",
                                  "--rate", "100", "--mask", "/usr", "--mask", "/etc", "--conf",
                                  "zone = a", "--no-daemons", "--bin", "/bin"});
  EXPECT_EQ(command.spec.name, "x-1");
  EXPECT_EQ(command.spec.nodes, 2);
  EXPECT_EQ(command.spec.cpus, (std::vector{0.5, 2.0}));
  EXPECT_EQ(command.spec.rtt_ms, 3);
  EXPECT_EQ(command.spec.rate_mbit, 100);
  EXPECT_EQ(command.spec.masks, (std::vector<std::string>{"/usr", "/etc"}));
  EXPECT_EQ(command.spec.config, (std::vector<std::string>{"zone = a"}));
  EXPECT_FALSE(command.spec.daemons);
}

TEST(MoslabCommandLine, OneCpuFigureIsForEveryNode) {
  EXPECT_EQ(parsed({"up", "3", "--cpus", "0.5"}).spec.cpus, (std::vector{0.5, 0.5, 0.5}));
}

TEST(MoslabCommandLine, NodesMayHaveProgramsOfTheirOwn) {
  const LabSpec spec = parsed({"up", "3", "--bin", "/bin", "--bin-of", "n2=/sbin/."}).spec;
  EXPECT_EQ(spec.bin_of(1), spec.bin);
  EXPECT_EQ(spec.bin_of(2), std::filesystem::canonical("/sbin"));
  EXPECT_EQ(spec.bin_of(3), spec.bin);
  const std::string want = ": want NODE=DIR with a node of the lab";
  EXPECT_EQ(refused({"up", "3", "--bin-of", "n4=/bin"}), "bin-of: n4=/bin" + want);
  EXPECT_EQ(refused({"up", "3", "--bin-of", "/bin"}), "bin-of: /bin" + want);
  EXPECT_EQ(refused({"up", "3", "--bin-of", "n2=/no"}), "bin-of: /no: no such directory");
}

TEST(MoslabCommandLine, WhatFollowsTheDashesBelongsToTheCommandThatIsRun) {
  const Command command =
      parsed({"exec", "n2", "--user", "1000", "--", "ls", "--help", "--", "-l"});
  EXPECT_EQ(command.words, std::vector<std::string>{"n2"});
  EXPECT_EQ(command.user, uid_t{1000});
  EXPECT_EQ(command.program, (std::vector<std::string>{"ls", "--help", "--", "-l"}));
}

TEST(MoslabCommandLine, HealTakesAPairOrNothing) {
  EXPECT_TRUE(parsed({"heal"}).words.empty());
  EXPECT_EQ(parsed({"heal", "n1", "n3"}).words.size(), 2u);
  EXPECT_EQ(refused({"heal", "n1"}), "heal: wrong number of arguments; see moslab --help");
}

TEST(MoslabCommandLine, WhatMakesNoSenseIsRefusedInWords) {
  EXPECT_EQ(refused({}), "no command given; see moslab --help");
  EXPECT_EQ(refused({"up", "101"}), "up: 101: want a number of nodes from 1 to 100");
  EXPECT_EQ(refused({"up", "2x"}), "up: 2x: want a number of nodes from 1 to 100");
  EXPECT_EQ(refused({"up", "2", "--rate", "0"}), "rate: want a number above 0");
  EXPECT_EQ(refused({"up", "2", "--cpus", "1,-1"}),
            "cpus: 1,-1: want numbers of CPUs such as 0.5,1,2");
  EXPECT_EQ(refused({"up", "2", "--mask", "/"}), "mask: / is too much");
  EXPECT_EQ(refused({"down", "--name", ".."}),
            "name: '..': want letters, digits, - and _, at most 32");
  EXPECT_EQ(refused({"status", "--", "ls"}), "status: takes no -- COMMAND");
  EXPECT_EQ(refused({"kill", "n1", "--all"}), "kill: unrecognised option '--all'");
}

}  // namespace
}  // namespace drover::moslab
