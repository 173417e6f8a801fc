#include "migrate/image_bounds.h"

#include <gtest/gtest.h>

#include "migrate/image.h"

namespace drover {
namespace {

using namespace std::chrono_literals;
using Time = ImageBounds::Clock::time_point;

constexpr Time kStart{1000s};
constexpr std::uint64_t kMuch = std::uint64_t{1} << 40;

Frame frame_of(FrameType type, std::size_t size) {
  Frame frame;
  frame.type = static_cast<std::uint16_t>(type);
  frame.payload.resize(size);
  return frame;
}

/// For how long frames are taken that come one in every `pause`.
std::chrono::seconds listened(ImageBounds bounds, const Frame& frame,
                              std::chrono::milliseconds pause) {
  Time now = kStart;
  while (now - kStart < 48h && bounds.patience(now) >= pause) {
    now += pause;
    if (!bounds.take(frame, now)) break;
  }
  return std::chrono::duration_cast<std::chrono::seconds>(now - kStart);
}

TEST(ImageBounds, ASlowLinkIsFastEnough) {
  const ImageBounds bounds(kStart, kMuch);
  EXPECT_GE(listened(bounds, frame_of(FrameType::kPages, 1 << 20), 19s), 48h);
  EXPECT_GE(listened(bounds, frame_of(FrameType::kPages, 64 << 10), 1s), 48h);
}

TEST(ImageBounds, LittleAtATimeIsNotListenedToForEver) {
  const ImageBounds bounds(kStart, kMuch);
  EXPECT_LE(listened(bounds, frame_of(FrameType::kPages, 4096), 1s), 30s);
  EXPECT_LE(listened(bounds, frame_of(FrameType::kPages, 4096), 19s), 30s);
}

TEST(ImageBounds, WhatIsNotOfTheImageGainsNoTime) {
  const ImageBounds bounds(kStart, kMuch);
  EXPECT_LE(listened(bounds, frame_of(FrameType::kHeartbeat, 1 << 20), 10ms), 20s);
  EXPECT_LE(listened(bounds, frame_of(FrameType::kNeedHome, 1 << 20), 10ms), 20s);
}

TEST(ImageBounds, AFastStartGainsNoSilenceLater) {
  ImageBounds bounds(kStart, kMuch);
  Time now = kStart;
  for (int i = 0; i < 10'000; ++i)
    ASSERT_TRUE(bounds.take(frame_of(FrameType::kPages, 1 << 20), now += 1ms));
  EXPECT_EQ(bounds.patience(now), 20s);
  EXPECT_EQ(bounds.patience(now + 21s), 0ms);
}

TEST(ImageBounds, NoMoreIsTakenThanTheMachineCouldHold) {
  const ImageBounds bounds(kStart, 100 << 20);
  EXPECT_LE(listened(bounds, frame_of(FrameType::kPages, 1 << 20), 10ms), 2s);
  EXPECT_GT(machine_memory(), 1u << 20);
}

TEST(ImageBounds, ALongerStartIsGivenOnce) {
  ImageBounds bounds(kStart, kMuch, 60s);
  ASSERT_TRUE(bounds.take(frame_of(FrameType::kPages, 4096), kStart + 1s));
  EXPECT_EQ(bounds.patience(kStart), 60s) << "not shortened by what came";
  EXPECT_EQ(bounds.patience(kStart + 60s), 0ms);
  bounds.begin_anew(kStart + 70s);
  EXPECT_EQ(bounds.patience(kStart + 70s), 20s);
}

}  // namespace
}  // namespace drover
