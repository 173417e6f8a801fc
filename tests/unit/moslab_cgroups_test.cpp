#include <gtest/gtest.h>

#include "tools/moslab/cgroups.h"

namespace drover::moslab {
namespace {

TEST(MoslabCgroups, PureV2IsOneHierarchyAtItsMountPoint) {
  const auto found = parse_hierarchies(
      "24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
      "0::/user.slice/user-0.slice/session-3.scope\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].v2());
  EXPECT_EQ(found[0].mount, "/sys/fs/cgroup");
  // Not below the session's own group: that holds processes.
  EXPECT_EQ(found[0].base, "/sys/fs/cgroup");
}

TEST(MoslabCgroups, OfTheV1HierarchiesThoseThatNodesNeedAreUsedBelowTheStartersOwnGroup) {
  const auto found = parse_hierarchies(
      "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "33 30 0:29 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
      "34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
      "35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
      "5:cpu,cpuacct:/\n4:memory:/some/job\n3:blkio:/\n1:name=systemd:/x\n0::/\n");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].controllers, "cpu,cpuacct");
  EXPECT_EQ(found[0].base, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(found[1].controllers, "memory");
  EXPECT_EQ(found[1].base, "/sys/fs/cgroup/memory/some/job");
  EXPECT_TRUE(found[2].v2());
}

TEST(MoslabCgroups, InsideAContainerTheMountsRootIsNotPartOfThePath) {
  const auto found = parse_hierarchies(
      "32 30 0:28 /docker/12ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
      "4:memory:/docker/12ab/inner\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].base, "/sys/fs/cgroup/memory/inner");
}

TEST(MoslabCgroups, AHierarchyThatIsMountedTwiceCountsOnce) {
  const std::string line = "32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
  EXPECT_EQ(parse_hierarchies(line + line, "8:pids:/\n").size(), 1u);
}

}  // namespace
}  // namespace drover::moslab
