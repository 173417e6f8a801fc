#include "migrate/content_transfer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>
#include <thread>

namespace drover {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSize = 3 << 20;

class Transfer : public testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    auto accepted = std::async(std::launch::async, [fd = fds[1]] {
      return SecureChannel::open(OwnedFd(fd), ChannelRole::kAcceptor, ChannelKey{}, 5s);
    });
    auto dialled = SecureChannel::open(OwnedFd(fds[0]), ChannelRole::kDialler, ChannelKey{}, 5s);
    auto other = accepted.get();
    ASSERT_TRUE(dialled && other);
    sender_.emplace(*std::move(dialled));
    receiver_.emplace(*std::move(other));
  }

  /// Takes the offer, answers after `pause` that it wants all of it, and takes that.
  std::future<std::uint64_t> receive(std::chrono::milliseconds pause) {
    return std::async(std::launch::async, [this, pause]() -> std::uint64_t {
      const auto offer = receiver_->receive_within(5s);
      if (!offer || offer->type != static_cast<std::uint16_t>(FrameType::kOfferContent)) return 0;
      std::this_thread::sleep_for(pause);
      ContentWant want;
      want.indices = {0};
      if (!receiver_->send(static_cast<std::uint16_t>(FrameType::kWantContent), want.encode()))
        return 0;
      std::uint64_t taken = 0;
      while (taken < kSize) {
        const auto piece = receiver_->receive_within(5s);
        if (!piece) break;
        taken += piece->payload.size() - sizeof(ContentPiece);
      }
      return taken;
    });
  }

  static Status nothing(std::uint32_t, std::uint64_t, std::span<std::byte>) { return {}; }

  static std::vector<Content> one() {
    Content content;
    content.size = kSize;
    return {content};
  }

  std::optional<SecureChannel> sender_;
  std::optional<SecureChannel> receiver_;
};

TEST_F(Transfer, GivesSignsOfLifeWhileItSends) {
  auto taken = receive(0ms);
  int signs = 0;
  const auto sent = send_contents(*sender_, 0, one(), nothing, [&] {
    ++signs;
    return Status{};
  });
  ASSERT_TRUE(sent) << sent.error().message();
  EXPECT_EQ(*sent, kSize);
  EXPECT_EQ(taken.get(), kSize);
  // Eight seconds is a lease: one Mbit a second has to be enough.
  EXPECT_GE(signs, static_cast<int>(kSize / 1'000'000));
}

TEST_F(Transfer, GivesSignsOfLifeWhileItWaitsForAnAnswer) {
  auto taken = receive(2500ms);
  bool answered = false;
  int signs_before = 0;
  const auto sent = send_contents(
      *sender_, 0, one(),
      [&](std::uint32_t, std::uint64_t, std::span<std::byte>) {
        answered = true;
        return Status{};
      },
      [&] {
        if (!answered) ++signs_before;
        return Status{};
      });
  ASSERT_TRUE(sent) << sent.error().message();
  EXPECT_EQ(taken.get(), kSize);
  EXPECT_GE(signs_before, 2);
}

TEST_F(Transfer, EndsWhenASignOfLifeCannotBeGiven) {
  auto taken = receive(0ms);
  const auto sent =
      send_contents(*sender_, 0, one(), nothing, [] { return Status(refusal("home is gone")); });
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().message(), "home is gone");
  sender_.reset();
  EXPECT_LT(taken.get(), kSize);
}

}  // namespace
}  // namespace drover
