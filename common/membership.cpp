#include "common/membership.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base64.h"
#include "common/durable_file.h"
#include "common/openssl_error.h"

namespace drover {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFileKind = "drover-members:v1 ";
constexpr std::string_view kAdminKeyKind = "drover-admin:v1:";

std::string hexadecimal(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

std::string sha256(std::string_view text) {
  std::array<std::byte, 32> digest{};
  EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr,
             EVP_sha256(), nullptr);
  return hexadecimal(digest);
}

Bytes signed_bytes(std::string_view json) {
  std::string text(kMembershipContext);
  text += json;
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::string as_key(const std::array<std::byte, 32>& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

bool is_cluster_id(const std::string& id) {
  return id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Status read_key(const Json& member, const char* field, std::array<std::byte, 32>& key) {
  if (!base64_decode_into(member.at(field).get_ref<const std::string&>(), key))
    return refusal(std::string("damaged key: ") + field);
  return {};
}

std::uint64_t read_number(const Json& object, const char* field) {
  const Json& value = object.at(field);
  // `get` would turn -1, 1.5 and true into numbers.
  if (!value.is_number_unsigned()) return 0;
  return value.get<std::uint64_t>();
}

Result<NodeAddress> read_address(const Json& json) {
  const std::uint64_t data = read_number(json, "data_port");
  const std::uint64_t control = read_number(json, "control_port");
  if (data < 1 || data > 65535 || control < 1 || control > 65535) return refusal("bad port");
  return NodeAddress{json.at("host").get<std::string>(), static_cast<std::uint16_t>(data),
                     static_cast<std::uint16_t>(control)};
}

Status check_member(const Member& member) {
  if (!valid_name(member.name)) return refusal("bad name of a node");
  if (!valid_name(member.zone)) return refusal(member.name + ": bad name of its zone");
  if (member.addresses.empty() || member.addresses.size() > kMaxAddresses)
    return refusal(member.name + ": no address, or too many");
  for (const NodeAddress& address : member.addresses)
    if (!valid_host(address.host)) return refusal(member.name + ": bad address");
  return {};
}

Result<Member> read_member(const Json& json) {
  Member member;
  member.name = json.at("name").get<std::string>();
  DROVER_CHECK(read_key(json, "identity", member.keys.identity));
  DROVER_CHECK(read_key(json, "control", member.keys.control));
  DROVER_CHECK(read_key(json, "gossip", member.keys.gossip));
  member.zone = json.at("zone").get<std::string>();
  member.revoked = json.at("revoked").get<bool>();
  for (const Json& item : json.at("addresses").get_ref<const Json::array_t&>()) {
    DROVER_TRY(NodeAddress address, read_address(item));
    member.addresses.push_back(std::move(address));
    if (member.addresses.size() > kMaxAddresses) break;
  }
  DROVER_CHECK(check_member(member));
  return member;
}

Json write_member(const Member& member) {
  Json addresses = Json::array();
  for (const NodeAddress& address : member.addresses)
    addresses.push_back({{"host", address.host},
                         {"data_port", address.data_port},
                         {"control_port", address.control_port}});
  return {{"name", member.name},
          {"identity", base64_encode(member.keys.identity)},
          {"control", base64_encode(member.keys.control)},
          {"gossip", base64_encode(member.keys.gossip)},
          {"zone", member.zone},
          {"addresses", std::move(addresses)},
          {"revoked", member.revoked}};
}

}  // namespace

Result<Membership> Membership::create() {
  std::array<std::byte, 16> id{};
  if (RAND_bytes(reinterpret_cast<unsigned char*>(id.data()), id.size()) != 1)
    return openssl_error("make a cluster id");
  Membership list;
  list.cluster_ = hexadecimal(id);
  DROVER_CHECK(list.index());
  return list;
}

Result<Membership> Membership::verify(std::string_view file, const Ed25519PublicKey& admin) {
  if (file.size() > kMaxMembershipBytes) return Error{EFBIG, "membership list"};
  const std::size_t line_end = file.find('\n');
  if (!file.starts_with(kFileKind) || line_end == std::string_view::npos)
    return refusal("membership list: not one, or a damaged one");
  Ed25519Signature signature{};
  const std::string_view encoded = file.substr(kFileKind.size(), line_end - kFileKind.size());
  const std::string_view json = file.substr(line_end + 1);
  if (!base64_decode_into(encoded, signature) ||
      !ed25519_verify(admin, signed_bytes(json), signature))
    return refusal("membership list: not signed by this cluster's administrator, or damaged");
  return parse(json);
}

Result<Membership> Membership::load(const std::string& path, const Ed25519PublicKey& admin) {
  DROVER_TRY(const std::string file, read_small_file(path, kMaxMembershipBytes));
  auto list = verify(file, admin);
  if (!list) return list.error().within(path);
  return list;
}

Result<Membership> Membership::parse(std::string_view text) {
  Membership list;
  try {
    const Json json = Json::parse(text);
    list.cluster_ = json.at("cluster").get<std::string>();
    if (!is_cluster_id(list.cluster_)) return refusal("membership list: bad cluster id");
    list.serial_ = read_number(json, "serial");
    if (list.serial_ == 0) return refusal("membership list: bad serial number");
    const auto& members = json.at("members").get_ref<const Json::array_t&>();
    if (members.size() > kMaxMembers) return refusal("membership list: too many members");
    for (const Json& item : members) {
      auto member = read_member(item);
      if (!member) return member.error().within("membership list");
      list.members_.push_back(*std::move(member));
    }
  } catch (const Json::exception&) {
    return refusal("membership list: malformed");
  }
  const Status indexed = list.index();
  if (!indexed) return indexed.error().within("membership list");
  return list;
}

Result<std::string> Membership::sign(const Ed25519Key& admin) const {
  const std::string text = json();
  DROVER_TRY(const Ed25519Signature signature, admin.sign(signed_bytes(text)));
  std::string file(kFileKind);
  file += base64_encode(signature) + "\n" + text;
  if (file.size() > kMaxMembershipBytes) return Error{EFBIG, "membership list"};
  return file;
}

const Member* Membership::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &members_[found->second];
}

const Member* Membership::active(std::string_view name) const {
  const Member* member = find(name);
  return member && !member->revoked ? member : nullptr;
}

const Member* Membership::active_by_key(const std::array<std::byte, 32>& key) const {
  const auto found = by_key_.find(as_key(key));
  if (found == by_key_.end() || members_[found->second].revoked) return nullptr;
  return &members_[found->second];
}

const Member* Membership::active_by_identity(const Ed25519PublicKey& key) const {
  const Member* member = active_by_key(key);
  return member && member->keys.identity == key ? member : nullptr;
}

const Member* Membership::active_by_control(const CurvePublicKey& key) const {
  const Member* member = active_by_key(key);
  return member && member->keys.control == key ? member : nullptr;
}

const Member* Membership::active_by_gossip(const CurvePublicKey& key) const {
  const Member* member = active_by_key(key);
  return member && member->keys.gossip == key ? member : nullptr;
}

Status Membership::add(const NodeKeyLine& node) {
  const Member added{node.name, node.keys, node.zone, node.addresses, false};
  DROVER_CHECK(check_member(added));
  const Member* known = find(node.name);
  if (known && !known->revoked && known->keys != node.keys)
    return refusal(node.name + ": a member with other keys: revoke it first");
  if (known && known->revoked && known->keys == node.keys)
    return refusal(node.name + ": its keys were revoked: make new ones on the node");
  if (known && !known->revoked && known->zone == node.zone && known->addresses == node.addresses)
    return {};
  if (!known && members_.size() >= kMaxMembers) return refusal(node.name + ": the list is full");
  Membership next = *this;
  if (known)
    next.members_[static_cast<std::size_t>(known - members_.data())] = added;
  else
    next.members_.push_back(added);
  next.serial_ += 1;
  DROVER_CHECK(next.index());
  *this = std::move(next);
  return {};
}

Status Membership::revoke(std::string_view name) {
  const Member* known = find(name);
  if (!known) return refusal(std::string(name) + ": not a member");
  if (known->revoked) return refusal(std::string(name) + ": revoked already");
  members_[static_cast<std::size_t>(known - members_.data())].revoked = true;
  serial_ += 1;
  return index();
}

std::string Membership::json() const {
  Json members = Json::array();
  for (const Member& member : members_) members.push_back(write_member(member));
  const Json list = {{"cluster", cluster_}, {"serial", serial_}, {"members", std::move(members)}};
  return list.dump(1) + "\n";
}

Status Membership::index() {
  by_name_.clear();
  by_key_.clear();
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    if (!by_name_.emplace(member.name, i).second) return refusal(member.name + ": named twice");
    for (const auto& key : {member.keys.identity, member.keys.control, member.keys.gossip})
      if (!by_key_.emplace(as_key(key), i).second)
        return refusal(member.name + ": has a key that occurs twice");
  }
  digest_ = sha256(json());
  return {};
}

std::vector<std::string> no_longer_trusted(const Membership& before, const Membership& after) {
  std::vector<std::string> names;
  for (const Member& member : before.members()) {
    if (member.revoked) continue;
    const Member* now = after.active(member.name);
    if (!now || now->keys != member.keys) names.push_back(member.name);
  }
  return names;
}

Status accept_serial(const std::string& path, const Membership& list) {
  Json record = {{"cluster", list.cluster()}, {"serial", list.serial()}, {"digest", list.digest()}};
  const auto stored = read_small_file(path, 4096);
  if (!stored && stored.error().code != ENOENT) return stored.error();
  if (stored) {
    const Json last = Json::parse(*stored, nullptr, false);
    if (!last.is_object() || !last.contains("cluster") || !last.contains("serial") ||
        !last["serial"].is_number_unsigned() || !last.contains("digest"))
      return refusal(path + ": damaged");
    if (last == record) return {};
    if (last["cluster"] != list.cluster())
      return refusal("membership list: of another cluster (to change clusters remove " + path +
                     ")");
    const auto serial = last["serial"].get<std::uint64_t>();
    if (list.serial() < serial)
      return refusal("membership list: serial " + std::to_string(list.serial()) +
                     " is older than the last one, " + std::to_string(serial));
    if (list.serial() == serial)
      return refusal("membership list: another list of serial " + std::to_string(serial) +
                     " was used before");
  }
  return write_durably(path, record.dump() + "\n", 0600);
}

Result<Ed25519PublicKey> load_admin_public_key(const std::string& path) {
  DROVER_TRY(const std::string file, read_small_file(path, 4096));
  std::string_view text = file;
  Ed25519PublicKey key{};
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (!text.starts_with(kAdminKeyKind) ||
      !base64_decode_into(text.substr(kAdminKeyKind.size()), key))
    return refusal(path + ": not an administrator's public key, or a damaged one");
  return key;
}

Status store_admin_public_key(const std::string& path, const Ed25519PublicKey& key) {
  return write_durably(path, std::string(kAdminKeyKind) + base64_encode(key) + "\n", 0644);
}

}  // namespace drover
