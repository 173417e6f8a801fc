#include "common/ed25519.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

Bytes from_hex(std::string_view hex) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(std::byte(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}

// RFC 8032, section 7.1, test 2.
constexpr std::string_view kSeed =
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
constexpr std::string_view kPublic =
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
constexpr std::string_view kSignature =
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

TEST(Ed25519, AgreesWithTheRfcTestVector) {
  const Bytes seed = from_hex(kSeed);
  auto key = Ed25519Key::from_raw(std::span<const std::byte, 32>(seed.data(), 32));
  ASSERT_TRUE(key) << key.error().message();
  EXPECT_EQ(Bytes(key->public_key().begin(), key->public_key().end()), from_hex(kPublic));
  const Bytes message{std::byte{0x72}};
  auto signature = key->sign(message);
  ASSERT_TRUE(signature);
  EXPECT_EQ(Bytes(signature->begin(), signature->end()), from_hex(kSignature));
  EXPECT_TRUE(ed25519_verify(key->public_key(), message, *signature));
}

TEST(Ed25519, ASeedStoredAndReadBackIsTheSameKey) {
  auto key = Ed25519Key::generate();
  ASSERT_TRUE(key);
  auto seed = key->raw_private();
  ASSERT_TRUE(seed);
  auto again = Ed25519Key::from_raw(*seed);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->public_key(), key->public_key());
}

TEST(Ed25519, AChangedMessageSignatureOrKeyIsRefused) {
  auto key = Ed25519Key::generate();
  auto other = Ed25519Key::generate();
  ASSERT_TRUE(key && other);
  auto signature = key->sign(as_bytes("members"));
  ASSERT_TRUE(signature);
  EXPECT_TRUE(ed25519_verify(key->public_key(), as_bytes("members"), *signature));
  EXPECT_FALSE(ed25519_verify(key->public_key(), as_bytes("member"), *signature));
  EXPECT_FALSE(ed25519_verify(other->public_key(), as_bytes("members"), *signature));
  for (std::size_t i = 0; i < signature->size(); ++i) {
    Ed25519Signature bent = *signature;
    bent[i] ^= std::byte{1};
    EXPECT_FALSE(ed25519_verify(key->public_key(), as_bytes("members"), bent)) << i;
  }
}

TEST(Ed25519, AnEmptyMessageCanBeSigned) {
  auto key = Ed25519Key::generate();
  ASSERT_TRUE(key);
  auto signature = key->sign({});
  ASSERT_TRUE(signature);
  EXPECT_TRUE(ed25519_verify(key->public_key(), {}, *signature));
}

}  // namespace
}  // namespace drover
