#include "common/ed25519.h"

#include <openssl/evp.h>

#include "common/openssl_error.h"

namespace drover {
namespace {

const unsigned char* octets(const std::byte* data) {
  return reinterpret_cast<const unsigned char*>(data);
}
unsigned char* octets(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }

std::shared_ptr<EVP_PKEY> owned(EVP_PKEY* key) {
  return key ? std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free) : nullptr;
}

struct DigestContextFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using DigestContext = std::unique_ptr<EVP_MD_CTX, DigestContextFree>;

}  // namespace

Result<Ed25519Key> Ed25519Key::generate() {
  return adopt(owned(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")));
}

Result<Ed25519Key> Ed25519Key::from_raw(std::span<const std::byte, 32> seed) {
  return adopt(owned(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, octets(seed.data()), seed.size())));
}

Result<Ed25519Key> Ed25519Key::adopt(std::shared_ptr<EVP_PKEY> key) {
  if (!key) return openssl_error("make an Ed25519 key");
  Ed25519PublicKey public_key;
  std::size_t size = public_key.size();
  if (EVP_PKEY_get_raw_public_key(key.get(), octets(public_key.data()), &size) != 1 ||
      size != public_key.size())
    return openssl_error("read an Ed25519 public key");
  return Ed25519Key(std::move(key), public_key);
}

Result<Ed25519Seed> Ed25519Key::raw_private() const {
  Ed25519Seed seed;
  std::size_t size = seed.size();
  if (EVP_PKEY_get_raw_private_key(key_.get(), octets(seed.data()), &size) != 1 ||
      size != seed.size())
    return openssl_error("read an Ed25519 private key");
  return seed;
}

Result<Ed25519Signature> Ed25519Key::sign(ByteView message) const {
  const DigestContext context(EVP_MD_CTX_new());
  Ed25519Signature signature;
  std::size_t size = signature.size();
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), octets(signature.data()), &size, octets(message.data()),
                     message.size()) != 1 ||
      size != signature.size())
    return openssl_error("sign with Ed25519");
  return signature;
}

bool ed25519_verify(std::span<const std::byte, 32> key, ByteView message,
                    std::span<const std::byte, 64> signature) {
  const auto public_key =
      owned(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, octets(key.data()), key.size()));
  const DigestContext context(EVP_MD_CTX_new());
  const bool good =
      public_key && context &&
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, public_key.get()) == 1 &&
      EVP_DigestVerify(context.get(), octets(signature.data()), signature.size(),
                       octets(message.data()), message.size()) == 1;
  clear_openssl_errors();
  return good;
}

}  // namespace drover
