// Who belongs to the cluster: a list of nodes and their public keys that the cluster's
// administrator has signed.
//
// The file is one line "drover-members:v1 BASE64" with the Ed25519 signature, then JSON.
// The signature is over kMembershipContext and the exact bytes of the JSON, so nothing of the
// list is parsed before it is known to be the administrator's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/ed25519.h"
#include "common/identity.h"
#include "common/result.h"

namespace drover {

inline constexpr std::size_t kMaxMembers = 10'000;
inline constexpr std::size_t kMaxMembershipBytes = 8 << 20;
/// Put before what is signed: a signature for another purpose is none for this one.
inline constexpr std::string_view kMembershipContext = "drover membership list v1\n";

struct Member {
  std::string name;
  NodePublicKeys keys;
  std::string zone;
  std::vector<NodeAddress> addresses;  ///< at least one, best first
  bool revoked = false;                ///< kept, so that its keys cannot be added again
};

class Membership {
 public:
  /// An empty list of a new cluster with a random id, serial 0.
  static Result<Membership> create();
  /// The list in `file` (the whole text of a membership file), if `admin` signed it and
  /// everything in it is well-formed: names, hosts and ports; no name and no key twice.
  static Result<Membership> verify(std::string_view file, const Ed25519PublicKey& admin);
  /// The same for the file at `path`.
  static Result<Membership> load(const std::string& path, const Ed25519PublicKey& admin);
  /// The list in the JSON of a file whose signature has been verified. For `verify` and tests.
  static Result<Membership> parse(std::string_view json);

  /// The text of the file, signed.
  Result<std::string> sign(const Ed25519Key& admin) const;

  /// 32 hexadecimal digits.
  const std::string& cluster() const { return cluster_; }
  /// Grows by one with every change.
  std::uint64_t serial() const { return serial_; }
  /// 64 hexadecimal digits that stand for the list's whole content (SHA-256).
  const std::string& digest() const { return digest_; }
  const std::vector<Member>& members() const { return members_; }

  /// The member `name`, revoked or not; null if there is none.
  const Member* find(std::string_view name) const;
  /// The member, if it is not revoked; otherwise null.
  const Member* active(std::string_view name) const;
  const Member* active_by_identity(const Ed25519PublicKey& key) const;
  const Member* active_by_control(const CurvePublicKey& key) const;
  const Member* active_by_gossip(const CurvePublicKey& key) const;

  /// Signs a node in, or changes the zone and addresses of one that is in with the same keys
  /// (nothing, and not the serial, if they are the same).
  /// A revoked name may come back with new keys only.
  Status add(const NodeKeyLine& node);
  /// Excludes a node for good.
  Status revoke(std::string_view name);

 private:
  std::string json() const;
  Status index();
  const Member* active_by_key(const std::array<std::byte, 32>& key) const;

  std::string cluster_;
  std::uint64_t serial_ = 0;
  std::string digest_;
  std::vector<Member> members_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::unordered_map<std::string, std::size_t> by_key_;  // all kinds of keys; none occurs twice
};

/// The names of the nodes that `before` trusted and `after` does not, or not by the same keys:
/// what they said, and their open connections, are to be dropped.
std::vector<std::string> no_longer_trusted(const Membership& before, const Membership& after);

/// Whether a node whose last list is recorded in the file at `path` (in its state directory) may
/// use `list`, and if so records it. Refused: another cluster's list, one with a lower serial
/// than the last (an old list that is replayed), and another list of the same serial.
Status accept_serial(const std::string& path, const Membership& list);

/// The administrator's public key in the file at `path`: one line "drover-admin:v1:BASE64".
Result<Ed25519PublicKey> load_admin_public_key(const std::string& path);
Status store_admin_public_key(const std::string& path, const Ed25519PublicKey& key);

}  // namespace drover
