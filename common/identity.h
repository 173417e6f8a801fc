// What a node is: its keys, and the line by which an administrator signs it in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/ed25519.h"
#include "common/names.h"
#include "common/result.h"

namespace drover {

/// A Curve25519 public key as ZeroMQ's CURVE uses it (zmq_curve(7)).
using CurvePublicKey = std::array<std::byte, 32>;

/// A CURVE key pair; the secret half is wiped when a copy goes.
class CurveKeys {
 public:
  static Result<CurveKeys> generate();
  static Result<CurveKeys> from_secret(std::span<const std::byte, 32> secret);
  CurveKeys(const CurveKeys&) = default;
  CurveKeys& operator=(const CurveKeys&) = default;
  ~CurveKeys();

  const CurvePublicKey& public_key() const { return public_key_; }
  /// The secret half, for ZMQ_CURVE_SECRETKEY and for its file.
  std::span<const std::byte, 32> secret() const { return secret_; }

 private:
  CurveKeys() = default;

  CurvePublicKey public_key_{};
  std::array<std::byte, 32> secret_{};
};

/// The public halves of a node's keys.
struct NodePublicKeys {
  Ed25519PublicKey identity{};  ///< signs; pinned by the data plane
  CurvePublicKey control{};     ///< migrated's control bus
  CurvePublicKey gossip{};      ///< loadd's gossip

  bool operator==(const NodePublicKeys&) const = default;
};

/// 32 hexadecimal digits that stand for all three keys (SHA-256, cut to 128 bits), for people
/// to compare.
std::string fingerprint(const NodePublicKeys& keys);

/// A node's private keys. They never leave its machine.
class NodeKeys {
 public:
  /// Reads the keys in directory `dir`, making the directory (0700) and any key that is
  /// missing (0600, synced to disk). Two programs that start at once end with the same keys.
  /// Keys that other users have access to, and damaged ones, are refused.
  static Result<NodeKeys> load_or_create(const std::string& dir);
  /// The same, but a missing key is an error.
  static Result<NodeKeys> load(const std::string& dir);
  /// New keys that are stored nowhere.
  static Result<NodeKeys> generate();

  const Ed25519Key& identity() const { return identity_; }
  const CurveKeys& control() const { return control_; }
  const CurveKeys& gossip() const { return gossip_; }
  NodePublicKeys public_keys() const;

 private:
  NodeKeys(Ed25519Key identity, CurveKeys control, CurveKeys gossip)
      : identity_(std::move(identity)), control_(control), gossip_(gossip) {}

  Ed25519Key identity_;
  CurveKeys control_;
  CurveKeys gossip_;
};

/// Reads the Ed25519 private key in the file at `path`, or makes one there. For NodeKeys and for
/// the administrator's key.
Result<Ed25519Key> load_signing_key(const std::string& path);
Result<Ed25519Key> create_signing_key(const std::string& path);

/// Where a node can be reached.
struct NodeAddress {
  std::string host;  ///< an IP address (IPv6 without brackets) or a name to be looked up
  std::uint16_t data_port = 0;
  std::uint16_t control_port = 0;

  bool operator==(const NodeAddress&) const = default;
};

inline constexpr std::size_t kMaxAddresses = 16;

/// Whether `host` is made of what addresses and host names are made of.
bool valid_host(std::string_view host);

/// What a node tells the administrator about itself.
struct NodeKeyLine {
  std::string name;
  NodePublicKeys keys;
  std::string zone;
  std::vector<NodeAddress> addresses;

  bool operator==(const NodeKeyLine&) const = default;
};

/// The line that an administrator pastes:
/// drover-node:v1:NAME:BASE64 of the three public keys:ZONE:HOST:DATA PORT:CONTROL PORT
/// with more addresses after commas; an IPv6 address is in brackets.
std::string format_node_key(const NodeKeyLine& node);
/// Reads such a line (blanks around it do not matter). Every part is checked.
Result<NodeKeyLine> parse_node_key(std::string_view line);

}  // namespace drover
