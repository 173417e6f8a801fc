#include "common/identity.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <zmq.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "common/base64.h"
#include "common/durable_file.h"
#include "common/openssl_error.h"

namespace drover {
namespace {

constexpr std::size_t kKeyFileLimit = 4096;
constexpr char kSigningKeyKind[] = "drover-ed25519-private:v1:";
constexpr char kCurveKeyKind[] = "drover-curve-private:v1:";
constexpr char kNodeKeyKind[] = "drover-node:v1:";

/// Text that held a key and is wiped when it goes.
struct SecretText {
  std::string text;
  ~SecretText() { OPENSSL_cleanse(text.data(), text.size()); }
};

/// A key file is one line: its kind, then the base64 of 32 bytes.
Status read_key_file(const std::string& path, std::string_view kind,
                     std::span<std::byte, 32> secret) {
  DROVER_TRY(std::string stored, read_small_file(path, kKeyFileLimit, FilePrivacy::kSecret));
  const SecretText file{std::move(stored)};
  std::string_view text = file.text;
  if (!text.starts_with(kind)) return refusal(path + ": not a key file, or a damaged one");
  text.remove_prefix(kind.size());
  if (!text.ends_with('\n') || !base64_decode_into(text.substr(0, text.size() - 1), secret))
    return refusal(path + ": damaged key file");
  return {};
}

Status write_key_file(const std::string& path, std::string_view kind,
                      std::span<const std::byte, 32> secret) {
  SecretText encoded{base64_encode(secret)};
  SecretText file;
  file.text.reserve(kind.size() + encoded.text.size() + 1);
  file.text.append(kind).append(encoded.text).append("\n");
  return write_durably(path, file.text, 0600, IfExists::kFail);
}

Result<CurveKeys> load_curve_key(const std::string& path) {
  std::array<std::byte, 32> secret{};
  DROVER_CHECK(read_key_file(path, kCurveKeyKind, secret));
  auto keys = CurveKeys::from_secret(secret);
  OPENSSL_cleanse(secret.data(), secret.size());
  return keys;
}

Status create_curve_key(const std::string& path) {
  DROVER_TRY(const CurveKeys keys, CurveKeys::generate());
  return write_key_file(path, kCurveKeyKind, keys.secret());
}

/// Makes what is missing at `path`. Whoever else makes it at the same time, one wins.
template <class Create>
Status ensure_key(const std::string& path, Create create) {
  std::error_code code;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, code))) return {};
  const auto made = create(path);
  if (!made && made.error().code != EEXIST) return made.error();
  return {};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool read_port(std::string_view text, std::uint16_t& port) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), port);
  return code == std::errc() && end == text.data() + text.size() && port != 0;
}

Result<NodeAddress> parse_address(std::string_view text) {
  const Error error = refusal("node key: bad address: " + std::string(text.substr(0, 300)));
  NodeAddress address;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return error;
    address.host = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
  } else {
    address.host = text.substr(0, text.find(':'));
    text.remove_prefix(address.host.size());
  }
  const auto ports = split(text, ':');
  if (ports.size() != 3 || !ports[0].empty() || !read_port(ports[1], address.data_port) ||
      !read_port(ports[2], address.control_port) || !valid_host(address.host))
    return error;
  return address;
}

template <class Keys>
auto halves(Keys& keys) {
  return std::array{std::span(keys.identity), std::span(keys.control), std::span(keys.gossip)};
}

Bytes concatenated(const NodePublicKeys& keys) {
  Bytes all;
  for (const auto key : halves(keys)) all.insert(all.end(), key.begin(), key.end());
  return all;
}

}  // namespace

Result<CurveKeys> CurveKeys::generate() {
  char public_text[41], secret_text[41];  // Z85 of 32 bytes and a NUL
  if (zmq_curve_keypair(public_text, secret_text) != 0)
    return Error{0, std::string("make a CURVE key: ") + zmq_strerror(zmq_errno())};
  std::array<std::byte, 32> secret{};
  zmq_z85_decode(reinterpret_cast<std::uint8_t*>(secret.data()), secret_text);
  auto keys = from_secret(secret);
  OPENSSL_cleanse(secret.data(), secret.size());
  OPENSSL_cleanse(secret_text, sizeof secret_text);
  return keys;
}

Result<CurveKeys> CurveKeys::from_secret(std::span<const std::byte, 32> secret) {
  CurveKeys keys;
  std::copy(secret.begin(), secret.end(), keys.secret_.begin());
  char public_text[41], secret_text[41];
  zmq_z85_encode(secret_text, reinterpret_cast<const std::uint8_t*>(secret.data()), secret.size());
  const int status = zmq_curve_public(public_text, secret_text);
  OPENSSL_cleanse(secret_text, sizeof secret_text);
  if (status != 0) return Error{0, std::string("CURVE key: ") + zmq_strerror(zmq_errno())};
  zmq_z85_decode(reinterpret_cast<std::uint8_t*>(keys.public_key_.data()), public_text);
  return keys;
}

CurveKeys::~CurveKeys() { OPENSSL_cleanse(secret_.data(), secret_.size()); }

std::string fingerprint(const NodePublicKeys& keys) {
  const Bytes all = concatenated(keys);
  unsigned char digest[EVP_MAX_MD_SIZE] = {};
  EVP_Digest(all.data(), all.size(), digest, nullptr, EVP_sha256(), nullptr);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < 16; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

Result<Ed25519Key> load_signing_key(const std::string& path) {
  Ed25519Seed seed{};
  DROVER_CHECK(read_key_file(path, kSigningKeyKind, seed));
  auto key = Ed25519Key::from_raw(seed);
  OPENSSL_cleanse(seed.data(), seed.size());
  return key;
}

Result<Ed25519Key> create_signing_key(const std::string& path) {
  DROVER_TRY(Ed25519Key key, Ed25519Key::generate());
  DROVER_TRY(Ed25519Seed seed, key.raw_private());
  const Status written = write_key_file(path, kSigningKeyKind, seed);
  OPENSSL_cleanse(seed.data(), seed.size());
  if (!written) return written.error();
  return key;
}

Result<NodeKeys> NodeKeys::load_or_create(const std::string& dir) {
  DROVER_CHECK(make_private_directory(dir));
  DROVER_CHECK(ensure_key(dir + "/identity.key", create_signing_key));
  DROVER_CHECK(ensure_key(dir + "/control.key", create_curve_key));
  DROVER_CHECK(ensure_key(dir + "/gossip.key", create_curve_key));
  return load(dir);
}

Result<NodeKeys> NodeKeys::load(const std::string& dir) {
  DROVER_TRY(Ed25519Key identity, load_signing_key(dir + "/identity.key"));
  DROVER_TRY(CurveKeys control, load_curve_key(dir + "/control.key"));
  DROVER_TRY(CurveKeys gossip, load_curve_key(dir + "/gossip.key"));
  return NodeKeys(std::move(identity), control, gossip);
}

Result<NodeKeys> NodeKeys::generate() {
  DROVER_TRY(Ed25519Key identity, Ed25519Key::generate());
  DROVER_TRY(CurveKeys control, CurveKeys::generate());
  DROVER_TRY(CurveKeys gossip, CurveKeys::generate());
  return NodeKeys(std::move(identity), control, gossip);
}

NodePublicKeys NodeKeys::public_keys() const {
  return {identity_.public_key(), control_.public_key(), gossip_.public_key()};
}

bool valid_host(std::string_view host) {
  return !host.empty() && host.size() <= 253 && std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == ':';
  });
}

std::string format_node_key(const NodeKeyLine& node) {
  std::string line =
      kNodeKeyKind + node.name + ":" + base64_encode(concatenated(node.keys)) + ":" + node.zone;
  char separator = ':';
  for (const NodeAddress& address : node.addresses) {
    const bool bracket = address.host.find(':') != std::string::npos;
    line += separator + (bracket ? "[" + address.host + "]" : address.host) + ":" +
            std::to_string(address.data_port) + ":" + std::to_string(address.control_port);
    separator = ',';
  }
  return line;
}

Result<NodeKeyLine> parse_node_key(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r\n";
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  line = line.substr(0, line.find_last_not_of(kBlanks) + 1);
  if (!line.starts_with(kNodeKeyKind)) return refusal("node key: does not begin drover-node:v1:");
  line.remove_prefix(sizeof kNodeKeyKind - 1);

  std::string_view fields[3];
  for (std::string_view& field : fields) {
    const std::size_t end = line.find(':');
    if (end == std::string_view::npos) return refusal("node key: incomplete");
    field = line.substr(0, end);
    line.remove_prefix(end + 1);
  }
  NodeKeyLine node;
  node.name = fields[0];
  node.zone = fields[2];
  if (!valid_name(node.name)) return refusal("node key: bad name of the node");
  if (!valid_name(node.zone)) return refusal("node key: bad name of the zone");
  std::array<std::byte, 96> all;
  if (!base64_decode_into(fields[1], all)) return refusal("node key: damaged keys");
  std::size_t offset = 0;
  for (const auto key : halves(node.keys)) {
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(offset), key.size(), key.begin());
    offset += key.size();
  }
  for (const std::string_view part : split(line, ',')) {
    DROVER_TRY(NodeAddress address, parse_address(part));
    node.addresses.push_back(std::move(address));
    if (node.addresses.size() > kMaxAddresses) return refusal("node key: too many addresses");
  }
  return node;
}

}  // namespace drover
