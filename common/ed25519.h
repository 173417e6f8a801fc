// Ed25519 keys: a node's identity, the administrator's signature (RFC 8032).
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "common/result.h"
#include "common/wire.h"

namespace drover {

using Ed25519PublicKey = std::array<std::byte, 32>;
using Ed25519Signature = std::array<std::byte, 64>;
/// The 32-byte seed that RFC 8032 calls the private key.
using Ed25519Seed = std::array<std::byte, 32>;

/// A private key and its public half. Copies share one immutable OpenSSL key, which OpenSSL
/// wipes when the last copy goes.
class Ed25519Key {
 public:
  /// A new key from the system's random source.
  static Result<Ed25519Key> generate();

  /// The key of a stored seed. The caller wipes its own copy of the seed (OPENSSL_cleanse).
  static Result<Ed25519Key> from_raw(std::span<const std::byte, 32> seed);

  const Ed25519PublicKey& public_key() const { return public_key_; }

  /// The seed, to be stored. The caller wipes it after use (OPENSSL_cleanse).
  Result<Ed25519Seed> raw_private() const;

  /// Signs a whole message (pure Ed25519, no pre-hash).
  Result<Ed25519Signature> sign(ByteView message) const;

  /// For OpenSSL's own interfaces. Borrowed: lives as long as a copy of this key.
  EVP_PKEY* evp() const { return key_.get(); }

 private:
  Ed25519Key(std::shared_ptr<EVP_PKEY> key, const Ed25519PublicKey& public_key)
      : key_(std::move(key)), public_key_(public_key) {}
  static Result<Ed25519Key> adopt(std::shared_ptr<EVP_PKEY> key);

  std::shared_ptr<EVP_PKEY> key_;
  Ed25519PublicKey public_key_;
};

/// Whether `signature` is `key`'s over `message`. False for anything malformed.
bool ed25519_verify(std::span<const std::byte, 32> key, ByteView message,
                    std::span<const std::byte, 64> signature);

}  // namespace drover
