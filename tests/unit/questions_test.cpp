// What one node's migrated asks and answers another of a newer or an older version.
#include <gtest/gtest.h>
#include <poll.h>

#include "common/log.h"
#include "migrate/daemon_questions.h"
#include "migrate/messages.h"

namespace drover {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr ProtocolRange kOurs{1, 2};

/// A node that speaks kOurs, and one whose messages the test makes up.
class QuestionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Membership list = *Membership::create();
    ASSERT_TRUE(list.add(line("ours", our_keys_)));
    ASSERT_TRUE(list.add(line("theirs", their_keys_)));
    const auto members = std::make_shared<const Membership>(std::move(list));
    auto ours = ControlBus::open(our_keys_, members, kHost, port_of("ours"));
    auto theirs = ControlBus::open(their_keys_, members, kHost, port_of("theirs"));
    ASSERT_TRUE(ours) << ours.error().message();
    ASSERT_TRUE(theirs) << theirs.error().message();
    our_bus_.emplace(*std::move(ours));
    their_bus_.emplace(*std::move(theirs));
    auto questions = Questions::create(*loop_, *our_bus_, kOurs,
                                       [this](const std::string&, const peer::PeerMessage&) {
                                         ++asked_;
                                         peer::PeerMessage answer;
                                         answer.mutable_refused()->set_why("is busy");
                                         return answer;
                                       });
    ASSERT_TRUE(questions);
    questions_ = *std::move(questions);
  }

  /// Ports that are not given out by the kernel, on an address that only this process has.
  static std::uint16_t port_of(const std::string& name) { return name == "ours" ? 19001 : 19002; }
  NodeKeyLine line(const std::string& name, const NodeKeys& keys) const {
    return {name, keys.public_keys(), "lab", {{kHost, 1, port_of(name)}}};
  }

  /// Lets our node go on until the other one has heard something.
  Result<peer::PeerMessage> heard_by_them() {
    const auto deadline = Clock::now() + 10s;
    while (Clock::now() < deadline) {
      turn();
      if (const auto message = their_bus_->receive())
        return decode_message<peer::PeerMessage>(message->payload, "test");
    }
    return refusal("nothing was heard");
  }
  void turn() {
    const auto hold = loop_->after(10ms, [this] { loop_->stop(); });
    static_cast<void>(loop_->run().ok());
  }
  void they_say(ProtocolRange spoken, std::uint64_t question, peer::PeerMessage message) {
    message.set_oldest_protocol(spoken.oldest);
    message.set_newest_protocol(spoken.newest);
    message.set_question(question);
    ASSERT_TRUE(their_bus_->send("ours", encode_message(message)));
  }
  static peer::PeerMessage a_question() {
    peer::PeerMessage message;
    message.mutable_release_body()->set_job(std::string(32, 'a'));
    return message;
  }

  const std::string kHost = "127.77." + std::to_string(::getpid() >> 8 & 255) + "." +
                            std::to_string(1 + (::getpid() & 255) % 254);
  NodeKeys our_keys_ = *NodeKeys::generate();
  NodeKeys their_keys_ = *NodeKeys::generate();
  std::optional<ControlBus> our_bus_, their_bus_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
  std::unique_ptr<Questions> questions_;
  int asked_ = 0;
};

TEST_F(QuestionsTest, SayWhatThisNodeSpeaks) {
  questions_->tell("theirs", a_question());
  const auto heard = heard_by_them();
  ASSERT_TRUE(heard) << heard.error().message();
  EXPECT_EQ(spoken_by(*heard), kOurs);
}

TEST_F(QuestionsTest, OfANodeOfTheVersionBeforeAreAnswered) {
  they_say({1, 1}, 5, a_question());
  const auto heard = heard_by_them();
  ASSERT_TRUE(heard) << heard.error().message();
  EXPECT_EQ(heard->question(), 5u);
  EXPECT_EQ(heard->refused().why(), "is busy");
  EXPECT_EQ(questions_->spoken().at("theirs"), (ProtocolRange{1, 1}));
}

TEST_F(QuestionsTest, OfANodeWithoutAVersionInCommonAreRefusedInWords) {
  they_say({3, 4}, 5, a_question());
  const auto heard = heard_by_them();
  ASSERT_TRUE(heard) << heard.error().message();
  EXPECT_EQ(heard->question(), 5u);
  EXPECT_EQ(heard->refused().why(),
            "speaks versions 1 to 2 of the protocol, and theirs versions 3 to 4 of the protocol");
  EXPECT_EQ(asked_, 0);
}

TEST_F(QuestionsTest, ToANodeWithoutAVersionInCommonFailInWords) {
  for (const bool in_words_of_theirs : {true, false}) {
    std::optional<Result<peer::PeerMessage>> outcome;
    questions_->ask("theirs", a_question(),
                    [&](Result<peer::PeerMessage> answer) { outcome = std::move(answer); });
    const auto heard = heard_by_them();
    ASSERT_TRUE(heard) << heard.error().message();
    peer::PeerMessage answer;
    if (in_words_of_theirs) answer.mutable_refused()->set_why("speaks versions 3 to 4");
    they_say({3, 4}, heard->question(), answer);
    for (const auto deadline = Clock::now() + 4s; !outcome && Clock::now() < deadline;) turn();
    ASSERT_TRUE(outcome);
    ASSERT_FALSE(*outcome);
    EXPECT_EQ(outcome->error().message(),
              in_words_of_theirs ? "theirs speaks versions 3 to 4"
                                 : "theirs speaks versions 3 to 4 of the protocol, and this node "
                                   "versions 1 to 2 of the protocol");
  }
}

}  // namespace
}  // namespace drover
