#include "common/identity.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "common/base64.h"

namespace drover {
namespace {

namespace fs = std::filesystem;

class IdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-identity-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    keys_ = root_ + "/state/keys";
  }
  void TearDown() override { fs::remove_all(root_); }

  mode_t mode(const std::string& path) const {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }

  std::string root_;
  std::string keys_;
};

NodeKeyLine sample(const NodeKeys& keys) {
  return {"n1.lab", keys.public_keys(), "lab", {{"10.0.0.1", 7471, 7472}, {"fe80::1", 1, 65535}}};
}

TEST_F(IdentityTest, KeysAreMadeOnceAndKept) {
  auto first = NodeKeys::load_or_create(keys_);
  ASSERT_TRUE(first) << first.error().message();
  auto second = NodeKeys::load_or_create(keys_);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(first->public_keys(), second->public_keys());
  EXPECT_EQ(mode(keys_), 0700u);
  for (const char* name : {"/identity.key", "/control.key", "/gossip.key"})
    EXPECT_EQ(mode(keys_ + name), 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(keys_), {}), 3) << "temporary files left";
}

TEST_F(IdentityTest, TwoNodesAndTwoPurposesNeverShareAKey) {
  auto a = NodeKeys::generate(), b = NodeKeys::generate();
  ASSERT_TRUE(a && b);
  EXPECT_NE(a->identity().public_key(), b->identity().public_key());
  EXPECT_NE(a->control().public_key(), b->control().public_key());
  EXPECT_NE(a->control().public_key(), a->gossip().public_key());
  EXPECT_NE(fingerprint(a->public_keys()), fingerprint(b->public_keys()));
  EXPECT_EQ(fingerprint(a->public_keys()).size(), 32u);
}

TEST_F(IdentityTest, ProgramsThatStartAtOnceEndWithTheSameKeys) {
  std::vector<std::string> prints(8);
  std::vector<std::thread> threads;
  for (std::string& print : prints)
    threads.emplace_back([&print, this] {
      auto keys = NodeKeys::load_or_create(keys_);
      if (keys) print = fingerprint(keys->public_keys());
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& print : prints) EXPECT_EQ(print, prints[0]);
  EXPECT_FALSE(prints[0].empty());
}

TEST_F(IdentityTest, LoadNeverMakesKeys) {
  EXPECT_EQ(NodeKeys::load(keys_).error().code, ENOENT);
  EXPECT_FALSE(fs::exists(keys_));
}

TEST_F(IdentityTest, KeysThatOthersCanReadAreRefused) {
  ASSERT_TRUE(NodeKeys::load_or_create(keys_));
  ::chmod((keys_ + "/control.key").c_str(), 0640);
  EXPECT_EQ(NodeKeys::load_or_create(keys_).error().message(),
            keys_ + "/control.key: open to other users: its mode must be 0600");
  ::chmod((keys_ + "/control.key").c_str(), 0600);
  ::chmod(keys_.c_str(), 0755);
  EXPECT_EQ(NodeKeys::load_or_create(keys_).error().message(),
            keys_ + ": open to other users: its mode must be 0700");
}

TEST_F(IdentityTest, AKeyBehindASymbolicLinkIsRefused) {
  ASSERT_TRUE(NodeKeys::load_or_create(keys_));
  fs::rename(keys_ + "/identity.key", root_ + "/elsewhere");
  fs::create_symlink(root_ + "/elsewhere", keys_ + "/identity.key");
  EXPECT_FALSE(NodeKeys::load_or_create(keys_));
}

TEST_F(IdentityTest, DamagedKeysAreRefusedAndNotReplaced) {
  ASSERT_TRUE(NodeKeys::load_or_create(keys_));
  const std::string path = keys_ + "/identity.key";
  for (const char* text : {"", "drover-ed25519-private:v1:", "rubbish\n",
                           "drover-ed25519-private:v1:AAAA\n", "drover-curve-private:v1:AAAA\n"}) {
    std::ofstream(path, std::ios::trunc) << text;
    const auto keys = NodeKeys::load_or_create(keys_);
    ASSERT_FALSE(keys) << text;
    EXPECT_TRUE(keys.error().message().starts_with(path)) << keys.error().message();
    EXPECT_EQ(fs::file_size(path), std::string(text).size());
  }
}

TEST_F(IdentityTest, CurveKeysAreTheSameFromTheirSecret) {
  auto keys = CurveKeys::generate();
  ASSERT_TRUE(keys);
  auto again = CurveKeys::from_secret(keys->secret());
  ASSERT_TRUE(again);
  EXPECT_EQ(keys->public_key(), again->public_key());
}

TEST_F(IdentityTest, TheNodeKeyLineComesBackAsItWas) {
  auto keys = NodeKeys::generate();
  ASSERT_TRUE(keys);
  const NodeKeyLine node = sample(*keys);
  const std::string line = format_node_key(node);
  EXPECT_EQ(line.find_first_of(" \n\t"), std::string::npos);
  auto parsed = parse_node_key("  " + line + "\r\n");
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(*parsed, node);
}

TEST_F(IdentityTest, EveryCutNodeKeyLineIsRefusedOrHasAnotherPort) {
  auto keys = NodeKeys::generate();
  ASSERT_TRUE(keys);
  NodeKeyLine node = sample(*keys);
  node.addresses.resize(1);
  const std::string line = format_node_key(node);
  for (std::size_t size = 0; size < line.size(); ++size) {
    const auto parsed = parse_node_key(line.substr(0, size));
    // Only digits missing at the end make another, well-formed line.
    EXPECT_TRUE(!parsed || size > line.rfind(':')) << line.substr(0, size);
  }
}

TEST_F(IdentityTest, MalformedNodeKeyLinesAreRefused) {
  auto keys = NodeKeys::generate();
  ASSERT_TRUE(keys);
  const auto line_with = [&](auto change) {
    NodeKeyLine node = sample(*keys);
    change(node);
    return format_node_key(node);
  };
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.name = "Upper"; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.name = ""; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.name = "-x"; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.name = "a/b"; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.name = std::string(64, 'a'); })));
  EXPECT_TRUE(parse_node_key(line_with([](auto& n) { n.name = std::string(63, 'a'); })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.zone = "a b"; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.addresses.clear(); })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.addresses[0].host = "a b"; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) { n.addresses[0].data_port = 0; })));
  EXPECT_FALSE(parse_node_key(line_with([](auto& n) {
    n.addresses.assign(kMaxAddresses + 1, {"10.0.0.1", 1, 2});
  })));
  std::string line = line_with([](auto&) {});
  EXPECT_FALSE(parse_node_key(line + ":1"));
  EXPECT_FALSE(parse_node_key(line + ","));
  line[line.find("n1.lab:") + 20] = '!';
  EXPECT_FALSE(parse_node_key(line));
}

TEST(Base64Test, OnlyTheOneSpellingOfBytesIsRead) {
  EXPECT_EQ(base64_encode(as_bytes("")), "");
  EXPECT_EQ(base64_encode(as_bytes("f")), "Zg==");
  EXPECT_EQ(base64_encode(as_bytes("foobar")), "Zm9vYmFy");
  for (const char* text :
       {"Zg=", "Zg", "Zh==", " Zg==", "Zg==\n", "Z===", "====", "Zm9=YmFy", "-_=="})
    EXPECT_FALSE(base64_decode(text)) << text;
  ASSERT_TRUE(base64_decode("Zm8="));
  EXPECT_EQ(base64_decode("Zm8=")->size(), 2u);
  EXPECT_EQ(base64_decode("")->size(), 0u);
}

}  // namespace
}  // namespace drover
