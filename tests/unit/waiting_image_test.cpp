#include "migrate/waiting_image.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "remote-syscall/body_messages.h"

namespace drover {
namespace {

Frame frame(FrameType kind, std::size_t size) { return {type(kind), Bytes(size)}; }

TEST(WaitingImage, GivesBackInOrderWhatWasPutAside) {
  WaitingImage image(1000);
  for (std::size_t size : {10, 20, 30}) {
    Frame part = frame(FrameType::kPages, size);
    EXPECT_TRUE(image.put(part));
  }
  for (std::size_t size : {10, 20, 30}) EXPECT_EQ(image.next()->payload.size(), size);
  EXPECT_FALSE(image.next());
}

TEST(WaitingImage, TakesNothingElse) {
  WaitingImage image(1000);
  Frame call = frame(FrameType::kCall, 10);
  EXPECT_FALSE(image.put(call));
  EXPECT_EQ(call.payload.size(), 10U);
  Frame end = frame(FrameType::kImageEnd, 0);
  EXPECT_FALSE(image.put(end));
}

TEST(WaitingImage, LeavesWhatItHasNoRoomFor) {
  WaitingImage image(100);
  Frame small = frame(FrameType::kPages, 60);
  Frame large = frame(FrameType::kPages, 41);
  EXPECT_TRUE(image.put(small));
  EXPECT_FALSE(image.put(large));
  EXPECT_EQ(large.payload.size(), 41U);
}

/// A tree of control groups, as files.
class Groups : public ::testing::Test {
 public:
  ~Groups() override { std::filesystem::remove_all(root_); }

 protected:
  Groups()
      : root_(std::filesystem::path(testing::TempDir()) / ("groups-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ / "a/b");
  }
  void say(const std::string& file, const std::string& text) {
    std::ofstream(root_ / file) << text;
  }
  std::uint64_t free() const { return free_in_cgroup((root_ / "a/b").string()); }

 private:
  std::filesystem::path root_;
};

TEST_F(Groups, LeaveWhatTheTightestOneDoes) {
  say("a/memory.max", "1000\n");
  say("a/memory.current", "300\n");
  say("a/b/memory.max", "max\n");
  say("a/b/memory.current", "200\n");
  EXPECT_EQ(free(), 700U);
  say("a/b/memory.max", "250\n");
  EXPECT_EQ(free(), 50U);
}

TEST_F(Groups, OfTheFirstVersionDoSo) {
  say("a/memory.limit_in_bytes", "1000\n");
  say("a/memory.usage_in_bytes", "1100\n");
  EXPECT_EQ(free(), 0U);
}

TEST_F(Groups, WithoutLimitsLeaveAll) { EXPECT_EQ(free(), UINT64_MAX); }

TEST(FreeMemory, IsSomeOfTheMachines) {
  EXPECT_GT(free_memory(), 0U);
  EXPECT_LT(free_memory(), UINT64_MAX);
}

}  // namespace
}  // namespace drover
