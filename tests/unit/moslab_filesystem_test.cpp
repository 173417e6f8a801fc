#include <gtest/gtest.h>

#include "tools/moslab/filesystem.h"

namespace drover::moslab {
namespace {

TEST(MoslabFilesystem, PrivateIsWhatANodeHasOfItsOwnAndAllBelow) {
  for (const char* path : {"/home", "/home/u/work", "/root", "/var/lib", "/etc/drover", "/tmp/x"})
    EXPECT_TRUE(is_private(path)) << path;
  for (const char* path : {"/", "/homes", "/etc", "/usr/var", "/work"})
    EXPECT_FALSE(is_private(path)) << path;
}

TEST(MoslabFilesystem, NodesSeeTheHostsOtherDisksButNotItsOwnPlaces) {
  const auto mounts = disk_mounts(
      "21 1 254:0 / / rw - ext4 /dev/vda rw\n"
      "22 21 254:1 / /srv/data/inner rw,relatime shared:2 - xfs /dev/vdc rw\n"
      "23 21 254:2 / /srv/data rw - btrfs /dev/vdb rw\n"
      "24 21 254:3 / /home rw - ext4 /dev/vdd rw\n"
      "25 21 0:5 / /proc rw - proc proc rw\n"
      "26 21 0:6 / /srv/tmp rw - tmpfs tmpfs rw\n"
      "27 21 254:4 / /srv/with\\040blank rw - ext4 /dev/vde rw\n");
  // Outer mounts before those inside them.
  EXPECT_EQ(mounts, (std::vector<std::string>{"/srv/data", "/srv/data/inner"}));
}

}  // namespace
}  // namespace drover::moslab
