#include "common/membership.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "common/base64.h"

namespace drover {
namespace {

NodeKeyLine node(const std::string& name, const NodePublicKeys& keys) {
  return {name, keys, "lab", {{"10.0.0.1", 7471, 7472}}};
}

NodePublicKeys new_keys() { return NodeKeys::generate()->public_keys(); }

class MembershipTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(list_.add(node("n1", n1_)));
    ASSERT_TRUE(list_.add(node("n2", n2_)));
    file_ = *list_.sign(admin_);
    json_ = file_.substr(file_.find('\n') + 1);
  }

  /// The list's JSON with a change, properly signed.
  template <class Change>
  std::string signed_with(Change change) const {
    auto json = nlohmann::json::parse(json_);
    change(json);
    return sign(json.dump());
  }
  std::string sign(const std::string& json) const {
    const auto signature = *admin_.sign(as_bytes(std::string(kMembershipContext) + json));
    return "drover-members:v1 " + base64_encode(signature) + "\n" + json;
  }
  Result<Membership> verify(const std::string& file) const {
    return Membership::verify(file, admin_.public_key());
  }

  Ed25519Key admin_ = *Ed25519Key::generate();
  NodePublicKeys n1_ = new_keys();
  NodePublicKeys n2_ = new_keys();
  Membership list_ = *Membership::create();
  std::string file_;
  std::string json_;
};

TEST_F(MembershipTest, ASignedListComesBackAsItWas) {
  auto list = verify(file_);
  ASSERT_TRUE(list) << list.error().message();
  EXPECT_EQ(list->cluster(), list_.cluster());
  EXPECT_EQ(list->serial(), 2u);
  EXPECT_EQ(list->digest(), list_.digest());
  ASSERT_EQ(list->members().size(), 2u);
  const Member* n2 = list->find("n2");
  ASSERT_NE(n2, nullptr);
  EXPECT_EQ(n2->keys, n2_);
  EXPECT_EQ(n2->zone, "lab");
  EXPECT_EQ(n2->addresses, (std::vector<NodeAddress>{{"10.0.0.1", 7471, 7472}}));
  EXPECT_EQ(list->active_by_control(n2_.control), n2);
  EXPECT_EQ(list->active_by_identity(n2_.identity), n2);
  EXPECT_EQ(list->active_by_gossip(n2_.gossip), n2);
  EXPECT_EQ(list->find("n3"), nullptr);
}

TEST_F(MembershipTest, AKeyOfOneKindIsNoKeyOfAnother) {
  EXPECT_EQ(list_.active_by_control(n1_.gossip), nullptr);
  EXPECT_EQ(list_.active_by_gossip(n1_.control), nullptr);
  EXPECT_EQ(list_.active_by_identity(n1_.control), nullptr);
}

TEST_F(MembershipTest, AnotherAdministratorsListIsRefused) {
  EXPECT_FALSE(Membership::verify(file_, Ed25519Key::generate()->public_key()));
}

TEST_F(MembershipTest, EveryChangedByteIsNoticed) {
  for (std::size_t i = 0; i < file_.size(); ++i) {
    std::string changed = file_;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    ASSERT_FALSE(verify(changed)) << "byte " << i;
  }
}

TEST_F(MembershipTest, EveryCutAndAnythingAddedIsNoticed) {
  for (std::size_t size = 0; size < file_.size(); ++size)
    ASSERT_FALSE(verify(file_.substr(0, size))) << size;
  EXPECT_FALSE(verify(file_ + "\n"));
}

TEST_F(MembershipTest, ASignatureForAnotherPurposeIsNone) {
  const auto signature = *admin_.sign(as_bytes(json_));
  EXPECT_FALSE(verify("drover-members:v1 " + base64_encode(signature) + "\n" + json_));
}

TEST_F(MembershipTest, MalformedListsAreRefusedThoughSigned) {
  using nlohmann::json;
  EXPECT_TRUE(verify(signed_with([](json&) {})));
  EXPECT_TRUE(verify(signed_with([](json& j) { j["a later version's"] = 1; })));
  const std::vector<std::function<void(json&)>> changes = {
      [](json& j) { j["members"][1]["name"] = "n1"; },
      [](json& j) { j["members"][1]["identity"] = j["members"][0]["identity"]; },
      [](json& j) { j["members"][1]["control"] = j["members"][0]["gossip"]; },
      [](json& j) { j["members"][1]["control"] = j["members"][1]["gossip"]; },
      [](json& j) { j["members"][1]["control"] = "AAAA"; },
      [](json& j) { j["members"][0]["name"] = "../n1"; },
      [](json& j) { j["members"][0]["name"] = 7; },
      [](json& j) { j["members"][0]["zone"] = "Z"; },
      [](json& j) { j["members"][0].erase("revoked"); },
      [](json& j) { j["members"][0]["revoked"] = "no"; },
      [](json& j) { j["members"][0]["addresses"] = json::array(); },
      [](json& j) { j["members"][0]["addresses"][0]["data_port"] = 65536; },
      [](json& j) { j["members"][0]["addresses"][0]["data_port"] = -1; },
      [](json& j) { j["members"][0]["addresses"][0]["control_port"] = 1.5; },
      [](json& j) { j["members"][0]["addresses"][0]["host"] = "tcp://x;"; },
      [](json& j) {
        const json address = j["members"][0]["addresses"][0];
        for (int i = 0; i < 20; ++i) j["members"][0]["addresses"].push_back(address);
      },
      [](json& j) { j["members"] = "many"; },
      [](json& j) { j["serial"] = 0; },
      [](json& j) { j["serial"] = -5; },
      [](json& j) { j["serial"] = 1.5; },
      [](json& j) { j["cluster"] = "x"; },
      [](json& j) { j = json::array(); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i)
    EXPECT_FALSE(verify(signed_with(changes[i]))) << "change " << i;
  EXPECT_FALSE(verify(sign("")));
  EXPECT_FALSE(verify(sign("{")));
  EXPECT_FALSE(verify(sign(json_ + json_)));
  EXPECT_FALSE(verify(sign("{\"cluster\":\"\xff\"}")));
}

TEST_F(MembershipTest, ListsThatAreTooLargeAreRefused) {
  const auto too_many = signed_with([](nlohmann::json& j) {
    const auto member = j["members"][0];
    while (j["members"].size() <= kMaxMembers) j["members"].push_back(member);
  });
  EXPECT_EQ(verify(too_many).error().message(), "membership list: too many members");
  EXPECT_EQ(verify(sign(std::string(kMaxMembershipBytes, ' '))).error().code, EFBIG);
}

TEST_F(MembershipTest, ARevokedNodeIsFoundByNoKey) {
  ASSERT_TRUE(list_.revoke("n2"));
  EXPECT_EQ(list_.serial(), 3u);
  EXPECT_NE(list_.find("n2"), nullptr);
  EXPECT_EQ(list_.active("n2"), nullptr);
  EXPECT_EQ(list_.active_by_control(n2_.control), nullptr);
  EXPECT_EQ(list_.active_by_identity(n2_.identity), nullptr);
  EXPECT_EQ(list_.active_by_gossip(n2_.gossip), nullptr);
  EXPECT_FALSE(list_.revoke("n2"));
  EXPECT_FALSE(list_.revoke("n3"));
  EXPECT_EQ(list_.serial(), 3u);
}

TEST_F(MembershipTest, RevokedKeysDoNotComeBackANewNodeOfTheNameDoes) {
  ASSERT_TRUE(list_.revoke("n2"));
  EXPECT_FALSE(list_.add(node("n2", n2_)));
  EXPECT_FALSE(list_.add(node("n3", n2_)));
  ASSERT_TRUE(list_.add(node("n2", new_keys())));
  EXPECT_NE(list_.active("n2"), nullptr);
  EXPECT_EQ(list_.active_by_control(n2_.control), nullptr);
}

TEST_F(MembershipTest, AMembersNameAndKeysCannotBeTaken) {
  EXPECT_FALSE(list_.add(node("n2", new_keys())));
  EXPECT_FALSE(list_.add(node("n3", n2_)));
  NodePublicKeys mixed = new_keys();
  mixed.control = n1_.control;
  EXPECT_FALSE(list_.add(node("n3", mixed)));
  EXPECT_EQ(list_.serial(), 2u);
  EXPECT_EQ(list_.find("n3"), nullptr);
}

TEST_F(MembershipTest, AMembersAddressesCanBeChanged) {
  NodeKeyLine moved = node("n2", n2_);
  moved.addresses = {{"192.0.2.7", 1, 2}};
  moved.zone = "far";
  ASSERT_TRUE(list_.add(moved));
  EXPECT_EQ(list_.find("n2")->addresses, moved.addresses);
  EXPECT_EQ(list_.find("n2")->zone, "far");
  EXPECT_EQ(list_.members().size(), 2u);
  EXPECT_EQ(list_.serial(), 3u);
  ASSERT_TRUE(list_.add(moved));
  EXPECT_EQ(list_.serial(), 3u) << "nothing changed";
}

TEST_F(MembershipTest, TheListSaysWhoseTrustEnded) {
  Membership next = list_;
  ASSERT_TRUE(next.revoke("n2"));
  EXPECT_EQ(no_longer_trusted(list_, next), std::vector<std::string>{"n2"});
  ASSERT_TRUE(next.add(node("n2", new_keys())));
  EXPECT_EQ(no_longer_trusted(list_, next), std::vector<std::string>{"n2"});
  EXPECT_TRUE(no_longer_trusted(next, next).empty());
}

TEST_F(MembershipTest, AnOldListIsNotAcceptedAgain) {
  char name[] = "/tmp/drover-membership-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = std::string(name) + "/serial";
  const Membership old = list_;
  ASSERT_TRUE(accept_serial(path, old));
  EXPECT_TRUE(accept_serial(path, old)) << "a restart with the same list";
  ASSERT_TRUE(list_.revoke("n2"));
  ASSERT_TRUE(accept_serial(path, list_));
  EXPECT_EQ(accept_serial(path, old).error().message(),
            "membership list: serial 2 is older than the last one, 3");

  Membership fork = old;
  ASSERT_TRUE(fork.revoke("n1"));
  EXPECT_EQ(accept_serial(path, fork).error().message(),
            "membership list: another list of serial 3 was used before");

  Membership other = *Membership::create();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(other.add(node("x" + std::to_string(i), new_keys())));
  EXPECT_FALSE(accept_serial(path, other));

  std::ofstream(path, std::ios::trunc) << "{}";
  EXPECT_FALSE(accept_serial(path, list_));
  std::filesystem::remove_all(name);
}

TEST_F(MembershipTest, TheAdministratorsPublicKeyComesBack) {
  const std::string path = ::testing::TempDir() + "drover-admin-test.pub";
  ASSERT_TRUE(store_admin_public_key(path, admin_.public_key()));
  auto key = load_admin_public_key(path);
  ASSERT_TRUE(key) << key.error().message();
  EXPECT_EQ(*key, admin_.public_key());
  std::ofstream(path, std::ios::trunc) << "drover-admin:v1:AAAA\n";
  EXPECT_FALSE(load_admin_public_key(path));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace drover
