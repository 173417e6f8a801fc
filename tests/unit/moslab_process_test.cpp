#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/moslab/node.h"
#include "tools/moslab/process.h"

namespace drover::moslab {
namespace {

TEST(MoslabProcess, AProcessIsFoundByItsNameOnlyWhileItLives) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  auto name = name_process(child);
  ASSERT_TRUE(name);
  EXPECT_TRUE(open_process(*name));
  EXPECT_FALSE(open_process({child, name->start_ticks + 1})) << "another process with its pid";
  kill(child, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_FALSE(open_process(*name)) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(open_process(*name));
}

TEST(MoslabProcess, LargeInputAndOutputPassWithoutBlockingEachOther) {
  const std::string input(1 << 20, 'x');
  auto out = run_checked({"cat"}, {.input = input, .prepare = {}, .working_dir = {}});
  ASSERT_TRUE(out) << out.error().message();
  EXPECT_EQ(*out, input);
}

TEST(MoslabProcess, AFailureQuotesTheFirstLineOfStderr) {
  auto failed = run_checked({"sh", "-c", "echo first >&2; echo second >&2; exit 3"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "sh: first");
  failed = run_checked({"sh", "-c", "kill -KILL $$"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "sh: killed by signal 9");
  failed = run_checked(
      {"true"}, {.input = {}, .prepare = [] { return refusal("no way"); }, .working_dir = {}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "true: no way");
}

TEST(MoslabNode, ClocksOfNodesAreMinutesApart) {
  EXPECT_EQ(clock_offsets(1), "monotonic 433 1000003\nboottime 493 0\n");
  EXPECT_EQ(clock_offsets(2), "monotonic 866 2000006\nboottime 986 0\n");
}

}  // namespace
}  // namespace drover::moslab
