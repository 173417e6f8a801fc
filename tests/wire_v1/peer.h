// A node of version 1 at the other end of a body's data channel, for tests: it speaks by
// tests/wire_v1/wire_v1.h, and only the channel itself is today's.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/secure_channel.h"
#include "tests/wire_v1/wire_v1.h"

namespace wire_v1 {

constexpr std::chrono::seconds kPatience{30};

struct Message {
  std::uint16_t type = 0;
  Bytes payload;
};

/// Two ends of a TCP connection on this machine.
inline std::pair<drover::OwnedFd, drover::OwnedFd> connection() {
  drover::OwnedFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  drover::OwnedFd one(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.get(), generic, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), generic, &size) != 0 ||
      ::connect(one.get(), generic, size) != 0)
    throw Malformed("no connection on the loopback");
  return {std::move(one),
          drover::OwnedFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC))};
}

/// One end of a channel. Whatever the other end says has to be of version 1, to the byte.
class Channel {
 public:
  /// `from_home`: home is at the other end.
  Channel(drover::OwnedFd socket, drover::ChannelRole role, const drover::ChannelKey& key,
          bool from_home)
      : channel_(opened(std::move(socket), role, key)), from_home_(from_home) {}

  void say(Type type, const Bytes& payload = {}) {
    if (const auto sent = channel_.send(type, payload); !sent)
      throw Malformed(sent.error().message());
  }

  /// The next message but heartbeats.
  Message next() {
    for (;;) {
      auto frame = channel_.receive_within(kPatience);
      if (!frame) throw Malformed(frame.error().message());
      if (read_and_write(frame->type, frame->payload, from_home_) != frame->payload)
        throw Malformed("a message of type " + std::to_string(frame->type) + " is not as it was");
      if (frame->type != kHeartbeat) return {frame->type, std::move(frame->payload)};
    }
  }

  Bytes expect(Type type) {
    Message message = next();
    if (message.type == type) return message.payload;
    const bool words = message.type == kFailed || message.type == kEnded;
    throw Malformed("type " + std::to_string(message.type) + " came, not " + std::to_string(type) +
                    (words ? ": " + read<Words>(message.payload).why : ""));
  }
  template <class M>
  M expect(Type type) {
    return read<M>(expect(type));
  }

 private:
  static drover::SecureChannel opened(drover::OwnedFd socket, drover::ChannelRole role,
                                      const drover::ChannelKey& key) {
    auto channel = drover::SecureChannel::open(std::move(socket), role, key, kPatience);
    if (!channel) throw Malformed(channel.error().message());
    return *std::move(channel);
  }

  drover::SecureChannel channel_;
  bool from_home_;
};

/// The image of a process, as it was taken from somebody.
struct Image {
  Bytes identity;
  std::vector<ContentOffer> offers;
  std::vector<Bytes> pieces;
  Bytes layout;
  std::vector<Bytes> pages;
  Bytes state;
};

/// The answer to a call of a body that was told to leave: it is to be made anew wherever it goes
/// on.
inline void hold(Channel& guest, const Call& call) {
  constexpr std::int64_t kErestartnointr = -513;
  Reply reply;
  reply.tid = call.tid;
  reply.sequence = call.sequence;
  reply.end = Reply::kHeld;
  reply.result = kErestartnointr;
  guest.say(kReply, reply.write());
}

/// Takes the image that the other end sends, identity and contents too if `all`.
inline Image take_image(Channel& from, bool all) {
  Image image;
  for (;;) {
    Message message = from.next();
    if (all && message.type == kIdentity) {
      image.identity = message.payload;
    } else if (all && message.type == kOfferContent) {
      const auto offer = read<ContentOffer>(message.payload);
      ContentWant want;
      for (std::uint32_t i = 0; i < offer.contents.size(); ++i)
        want.indices.push_back(offer.first_index + i);
      image.offers.push_back(offer);
      from.say(kWantContent, want.write());
    } else if (all && message.type == kContent) {
      image.pieces.push_back(message.payload);
    } else if (message.type == kLayout) {
      image.layout = message.payload;
    } else if (message.type == kPages) {
      image.pages.push_back(message.payload);
    } else if (message.type == kState) {
      image.state = message.payload;
    } else if (message.type == kImageEnd) {
      return image;
    } else {
      throw Malformed("type " + std::to_string(message.type) + " came with an image");
    }
  }
}

inline void give_image(Channel& to, const Image& image, bool all) {
  if (all) {
    to.say(kIdentity, image.identity);
    for (const ContentOffer& offer : image.offers) {
      to.say(kOfferContent, offer.write());
      const auto want = to.expect<ContentWant>(kWantContent);
      for (const Bytes& piece : image.pieces)
        for (const std::uint32_t index : want.indices)
          if (read<ContentPiece>(piece).index == index) to.say(kContent, piece);
    }
  }
  to.say(kLayout, image.layout);
  for (const Bytes& pages : image.pages) to.say(kPages, pages);
  to.say(kState, image.state);
  to.say(kImageEnd);
}

/// What a deputy of version 1 says and hears first.
inline void greet_guest(Channel& guest, const Hello& hello) {
  guest.say(kHello, hello.write());
  const auto answer = guest.expect<Hello>(kHello);
  if (answer.version != kVersion || answer.job != hello.job || answer.epoch != hello.epoch)
    throw Malformed("the guest speaks of another job, epoch or protocol");
  for (;;) {
    const Message question = guest.next();
    if (question.type == kClockDone) return;
    if (question.type != kClockAsk) throw Malformed("unexpected question of the guest");
    timespec monotonic{}, boottime{};
    ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
    ::clock_gettime(CLOCK_BOOTTIME, &boottime);
    const auto ns = [](const timespec& t) {
      return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
    };
    guest.say(kClockTell, ClockReading{ns(monotonic), ns(boottime)}.write());
  }
}

/// What a guest of version 1 says and hears first.
inline void greet_home(Channel& home, const Hello& hello) {
  home.say(kHello, hello.write());
  const auto answer = home.expect<Hello>(kHello);
  if (answer.version != kVersion || answer.job != hello.job || answer.epoch != hello.epoch)
    throw Malformed("home speaks of another job, epoch or protocol");
  for (int i = 0; i < 5; ++i) {
    home.say(kClockAsk);
    home.expect<ClockReading>(kClockTell);
  }
  home.say(kClockDone);
}

}  // namespace wire_v1
