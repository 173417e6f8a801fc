#include <gtest/gtest.h>

#include <chrono>

#include "migrate/admission.h"
#include "migrate/cpu_features.h"
#include "migrate/daemon_local.h"
#include "migrate/daemon_questions.h"
#include "migrate/jobs.h"
#include "migrate/messages.h"
#include "migrate/peers.h"

namespace drover {
namespace {

peer::PeerMessage well_formed() {
  peer::PeerMessage message;
  message.set_oldest_protocol(kOldestProtocol);
  message.set_newest_protocol(kNewestProtocol);
  message.set_question(7);
  peer::PrepareBody& prepare = *message.mutable_prepare_body();
  prepare.set_job(new_job_id());
  prepare.set_epoch(1);
  prepare.set_pid(4711);
  prepare.set_uid(1000);
  prepare.set_gid(1000);
  prepare.set_memory_bytes(1 << 20);
  prepare.set_link(std::string(kTicketBytes, 'L'));
  *prepare.mutable_home() = own_machine();
  return message;
}

Status parsed(const peer::PeerMessage& message) {
  const auto result = parse_peer_message(encode_message(message));
  return result ? Status() : Status(result.error());
}

TEST(PeerMessages, AWellFormedOneIsTaken) {
  const auto message = parse_peer_message(encode_message(well_formed()));
  ASSERT_TRUE(message) << message.error().message();
  EXPECT_EQ(message->question(), 7u);
  EXPECT_EQ(message->prepare_body().pid(), 4711);
}

TEST(PeerMessages, AMalformedFieldIsRefused) {
  const auto refused = [](auto change) {
    peer::PeerMessage message = well_formed();
    change(message);
    return !parsed(message);
  };
  using M = peer::PeerMessage;
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_job("../../etc"); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_job(""); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_epoch(0); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_pid(0); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_pid(1); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_pid(-5); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepare_body()->set_link("short"); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_prepared()->set_home_ticket("short"); }));
  EXPECT_TRUE(refused([](M& m) {
    m.mutable_prepared()->set_home_ticket(std::string(kTicketBytes, 'h'));
    m.mutable_prepared()->set_source_ticket("short");
  }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_refused()->set_why(std::string(100'000, 'x')); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_release_body()->set_job("x"); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_body_state()->set_job("x"); }));
  EXPECT_TRUE(refused([](M& m) { m.clear_message(); }));
  EXPECT_TRUE(refused([](M& m) {
    for (int i = 0; i < 300; ++i) m.mutable_prepare_body()->mutable_home()->add_cpu();
  }));
}

peer::PeerMessage of_versions(ProtocolRange spoken, peer::PeerMessage message = well_formed()) {
  message.set_oldest_protocol(spoken.oldest);
  message.set_newest_protocol(spoken.newest);
  return message;
}

TEST(PeerMessages, OnlyVersionsThatOverlapAreSpoken) {
  const auto kind = [](ProtocolRange spoken, peer::PeerMessage message = well_formed()) {
    const auto read = parse_peer_message(encode_message(of_versions(spoken, message)), {1, 2});
    return read ? read->message_case() : peer::PeerMessage::MESSAGE_NOT_SET;
  };
  EXPECT_EQ(kind({1, 1}), peer::PeerMessage::kPrepareBody);
  EXPECT_EQ(kind({2, 3}), peer::PeerMessage::kPrepareBody) << "newer, but it still speaks ours";
  EXPECT_EQ(kind({3, 4}), peer::PeerMessage::MESSAGE_NOT_SET);
  EXPECT_FALSE(parsed(of_versions({0, 0})));
  EXPECT_FALSE(parsed(of_versions({2, 1})));
}

TEST(PeerMessages, OfAStrangeVersionItIsKnownWhichAndWhatItRefuses) {
  const auto asked = parse_peer_message(encode_message(of_versions({3, 4})), {1, 2});
  ASSERT_TRUE(asked) << asked.error().message();
  EXPECT_EQ(asked->question(), 7u);
  EXPECT_EQ(spoken_by(*asked), (ProtocolRange{3, 4}));
  peer::PeerMessage refusal;
  refusal.mutable_refused()->set_why("is of another time");
  const auto refused = parse_peer_message(encode_message(of_versions({3, 4}, refusal)), {1, 2});
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->refused().why(), "is of another time");
}

TEST(ProtocolVersions, TheNewestThatBothSpeakIsSpoken) {
  EXPECT_EQ(common_protocols({1, 2}, {1, 1}), (ProtocolRange{1, 1}));
  EXPECT_EQ(common_protocols({1, 2}, {2, 3}), (ProtocolRange{2, 2}));
  EXPECT_EQ(common_protocols({1, 3}, {1, 2}), (ProtocolRange{1, 2}));
  EXPECT_EQ(common_protocols({1, 2}, {3, 4}), std::nullopt);
  EXPECT_EQ(in_words({1, 2}), "versions 1 to 2 of the protocol");
  EXPECT_EQ(in_words({2, 2}), "version 2 of the protocol");
}

TEST(PeerMessages, TruncationsAndGarbageAreRefusedOrHarmless) {
  const Bytes whole = encode_message(well_formed());
  for (std::size_t size = 0; size < whole.size(); ++size)
    static_cast<void>(parse_peer_message(ByteView(whole).first(size)).ok());
  EXPECT_FALSE(parse_peer_message({}));
  EXPECT_FALSE(parse_peer_message(Bytes(1000, std::byte{0xff})));
}

TEST(PeerMessages, TheContextOfAKeyTellsJobsEpochsAndTicketsApart) {
  const std::string job(32, 'a');
  const Ticket ticket = random_ticket();
  const Bytes context = body_key_context(job, 1, ticket);
  EXPECT_EQ(context, body_key_context(job, 1, ticket));
  EXPECT_NE(context, body_key_context(job, 2, ticket));
  EXPECT_NE(context, body_key_context(std::string(32, 'b'), 1, ticket));
  EXPECT_NE(context, body_key_context(job, 1, random_ticket()));
}

TEST(LocalRequests, OnlyWellFormedOnesAreTaken) {
  local::Request request;
  EXPECT_FALSE(parse_local_request(encode_message(request)));
  request.mutable_register_job();
  EXPECT_TRUE(parse_local_request(encode_message(request)));
  request.mutable_register_job()->set_start_on("n2; reboot");
  EXPECT_FALSE(parse_local_request(encode_message(request)));
  request.mutable_migrate_job()->set_pid(5);
  EXPECT_FALSE(parse_local_request(encode_message(request))) << "no target";
  request.mutable_migrate_job()->set_target("n2");
  EXPECT_TRUE(parse_local_request(encode_message(request)));
  request.mutable_migrate_job()->set_pid(-1);
  EXPECT_FALSE(parse_local_request(encode_message(request)));
  request.mutable_job_details()->set_pid(0);
  EXPECT_FALSE(parse_local_request(encode_message(request)));
  EXPECT_FALSE(parse_local_request(Bytes(64, std::byte{0xff})));
}

/// A body that this machine can take.
class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionTest() {
    body_ = well_formed().prepare_body();
    from_.name = "n1";
    from_.zone = "lab";
    policy_.guest_zones = {"lab"};
    policy_.max_guests = 2;
    state_.available_memory = 1UL << 30;
    state_.pid_max = 32768;
  }
  std::string refusal_words() const {
    const Status admitted = admit_body(body_, from_, policy_, state_, own_);
    return admitted ? "" : admitted.error().message();
  }

  peer::PrepareBody body_;
  Member from_;
  HostPolicy policy_;
  HostState state_;
  peer::Machine own_ = own_machine();
};

TEST_F(AdmissionTest, ABodyOfAnEqualMachineIsTaken) { EXPECT_EQ(refusal_words(), ""); }

TEST_F(AdmissionTest, TheZoneDecides) {
  from_.zone = "rented";
  EXPECT_EQ(refusal_words(), "takes no guests from the zone rented");
  policy_.guest_zones = {"lab", "rented"};
  EXPECT_EQ(refusal_words(), "");
  policy_.guest_zones = {};
  EXPECT_NE(refusal_words(), "");
}

TEST_F(AdmissionTest, ABlockedOrFullNodeTakesNone) {
  policy_.block = true;
  EXPECT_EQ(refusal_words(), "is blocked: it takes no guests");
  policy_.block = false;
  state_.guests = 2;
  EXPECT_EQ(refusal_words(), "has 2 guests already, its most");
}

TEST_F(AdmissionTest, PidMemoryAndCpusMustFit) {
  body_.set_pid(32768);
  EXPECT_EQ(refusal_words(), "has pids below 32768 only (kernel.pid_max)");
  body_.set_pid(32767);
  EXPECT_EQ(refusal_words(), "");
  body_.set_memory_bytes(UINT64_MAX);
  EXPECT_NE(refusal_words().find("has too little memory"), std::string::npos);
  body_.set_memory_bytes((1UL << 30) - 1);
  EXPECT_NE(refusal_words().find("has too little memory"), std::string::npos);
  body_.set_memory_bytes(1 << 20);
  state_.lowest_cpu = body_.home().possible_cpus();
  EXPECT_NE(refusal_words().find("may run guests from CPU"), std::string::npos);
}

TEST_F(AdmissionTest, WhatTheMachineLacksIsNamed) {
  own_.mutable_cpu(0)->set_bits(0);
  EXPECT_NE(refusal_words().find("has a CPU without what the home node's has: pni"),
            std::string::npos);
  own_ = own_machine();
  own_.set_vdso_identity("another");
  EXPECT_NE(refusal_words().find("with another vDSO"), std::string::npos);
  own_ = own_machine();
  own_.set_page_size(65536);
  EXPECT_NE(refusal_words().find("pages"), std::string::npos);
}

TEST(CpuFeatures, AMachineHasItsOwnAndMoreIsNoHarm) {
  const auto own = own_cpu_features();
  EXPECT_FALSE(own.empty());
  EXPECT_TRUE(missing_cpu_features(own, own).empty());
  auto more = own;
  for (CpuWord& word : more) word.bits = 0xffff'ffff;
  EXPECT_TRUE(missing_cpu_features(own, more).empty());
  EXPECT_FALSE(missing_cpu_features(more, own).empty());
  EXPECT_FALSE(missing_cpu_features(own, {}).empty());
}

TEST(CpuFeatures, AreNamedAsInCpuinfo) {
  const std::vector<CpuWord> wanted = {{0x7, 0, 1, 1U << 5 | 1U << 16}};
  EXPECT_EQ(missing_cpu_features(wanted, {}), (std::vector<std::string>{"avx2", "avx512f"}));
  EXPECT_EQ(missing_cpu_features(wanted, {{0x7, 0, 1, 1U << 5}}),
            std::vector<std::string>{"avx512f"});
  EXPECT_EQ(missing_cpu_features({{0x99, 3, 2, 1}}, {}).size(), 1u) << "unknown ones count too";
}

TEST(ClockSkew, IsWhatTheRoundTripCannotExplain) {
  using std::chrono::milliseconds;
  using std::chrono::nanoseconds;
  EXPECT_EQ(least_clock_skew(milliseconds(100), milliseconds(105), milliseconds(110)),
            nanoseconds(0));
  EXPECT_EQ(least_clock_skew(milliseconds(100), milliseconds(95), milliseconds(110)),
            milliseconds(5));
  EXPECT_EQ(least_clock_skew(milliseconds(100), milliseconds(112), milliseconds(110)),
            milliseconds(2));
}

}  // namespace
}  // namespace drover
