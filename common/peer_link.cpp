#include "common/peer_link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <utility>

#include "common/openssl_error.h"
#include "common/tls_socket.h"

namespace drover {
namespace {

constexpr const char* kWhat = "peer link";

// RFC 5705 wants labels of one's own to begin so.
constexpr std::string_view kLabelPrefix = "EXPERIMENTAL drover ";

// In TLS 1.3 a dialler is done before the acceptor has seen its certificate; this byte tells it
// that it was accepted.
constexpr unsigned char kWelcome = 'W';

// Silence of 3 + 3 * 2 s ends a link, idle or with data on the way.
constexpr int kKeepAliveIdleSeconds = 3;
constexpr int kKeepAliveIntervalSeconds = 2;
constexpr int kKeepAliveProbes = 3;
constexpr unsigned kUnansweredMilliseconds = 9000;

}  // namespace

struct PeerLink::State {
  State(OwnedFd fd, bool accepts) : socket(std::move(fd)), acceptor(accepts) {}

  Status set_up(const Ed25519Key& own);
  Result<Progress> advance();
  Status handshake();
  Status send_welcome();
  Status read();
  bool accept_peer(const Ed25519PublicKey& shown);
  static int verify(X509_STORE_CTX* store, void*);

  TlsSocket socket;
  SslContext context;  // of its own: the certificate is in it
  Ssl ssl;             // after the socket: it is destroyed first
  const bool acceptor;
  FindPeer find_peer;
  std::string name;  // of the peer; the dialler has it from the start
  Ed25519PublicKey key{};
  std::string refused;
  bool handshaken = false;
  bool established = false;
  std::optional<Error> over;
};

namespace {

struct CertificateFree {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Certificate = std::unique_ptr<X509, CertificateFree>;

/// The envelope that TLS wants around a key. Its dates say nothing: nodes' clocks may be wrong.
Certificate certificate_of(const Ed25519Key& key) {
  Certificate made(X509_new());
  X509* const x = made.get();
  if (!x) return nullptr;
  X509_NAME* const name = X509_get_subject_name(x);
  static constexpr unsigned char kName[] = "drover";
  const bool good =
      X509_set_version(x, X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notBefore(x), "19700101000000Z") == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notAfter(x), "99991231235959Z") == 1 &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, kName, sizeof kName - 1, -1, 0) == 1 &&
      X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key.evp()) == 1 &&
      X509_sign(x, key.evp(), nullptr) != 0;
  return good ? std::move(made) : nullptr;
}

std::optional<Ed25519PublicKey> key_in(X509* certificate) {
  EVP_PKEY* const key = certificate ? X509_get0_pubkey(certificate) : nullptr;
  Ed25519PublicKey raw;
  std::size_t size = raw.size();
  if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(raw.data()), &size) != 1 ||
      size != raw.size())
    return std::nullopt;
  return raw;
}

void watch_for_silence(int fd) {  // fails on Unix sockets, whose peers do not fall silent
  const auto set = [fd](int level, int option, auto value) {
    ::setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUnansweredMilliseconds);
}

Error moved_from() { return refusal("peer link: moved from"); }

}  // namespace

Result<PeerLink> PeerLink::dial(OwnedFd socket, const Ed25519Key& own, std::string name,
                                const Ed25519PublicKey& expected) {
  auto state = std::make_unique<State>(std::move(socket), false);
  state->name = std::move(name);
  state->key = expected;
  DROVER_CHECK(state->set_up(own));
  return PeerLink(std::move(state));
}

Result<PeerLink> PeerLink::accept(OwnedFd socket, const Ed25519Key& own, FindPeer find_peer) {
  auto state = std::make_unique<State>(std::move(socket), true);
  state->find_peer = std::move(find_peer);
  DROVER_CHECK(state->set_up(own));
  return PeerLink(std::move(state));
}

PeerLink::PeerLink(std::unique_ptr<State> state) : state_(std::move(state)) {}
PeerLink::PeerLink(PeerLink&&) noexcept = default;
PeerLink& PeerLink::operator=(PeerLink&&) noexcept = default;
PeerLink::~PeerLink() = default;

Result<PeerLink::Progress> PeerLink::step() {
  if (!state_) return moved_from();
  if (state_->over) return *state_->over;
  auto progress = state_->advance();
  if (!progress) state_->over = progress.error();
  return progress;
}

int PeerLink::fd() const { return state_ ? state_->socket.fd() : -1; }

bool PeerLink::wants_write() const {
  return state_ && !state_->over && state_->socket.has_unsent();
}

bool PeerLink::established() const { return state_ && !state_->over && state_->established; }

const std::string& PeerLink::peer_name() const {
  static const std::string nobody;
  return established() ? state_->name : nobody;
}

const Ed25519PublicKey& PeerLink::peer_key() const {
  static constexpr Ed25519PublicKey nobody{};
  return established() ? state_->key : nobody;
}

Result<ChannelKey> PeerLink::derive_key(std::string_view label, ByteView context) const {
  if (!established()) return refusal("peer link: derive a key: not established");
  const std::string full = std::string(kLabelPrefix).append(label);
  ChannelKey key;
  clear_openssl_errors();
  if (SSL_export_keying_material(state_->ssl.get(), reinterpret_cast<unsigned char*>(key.data()),
                                 key.size(), full.data(), full.size(),
                                 reinterpret_cast<const unsigned char*>(context.data()),
                                 context.size(), 1) != 1)
    return openssl_error("peer link: derive a key");
  return key;
}

void PeerLink::close() {
  if (!state_ || state_->over) return;
  clear_openssl_errors();
  if (state_->handshaken) SSL_shutdown(state_->ssl.get());
  static_cast<void>(state_->socket.flush().ok());  // a peer that takes nothing is told nothing
  ::shutdown(state_->socket.fd(), SHUT_RDWR);
  state_->over = refusal("peer link: closed here");
}

Status PeerLink::State::set_up(const Ed25519Key& own) {
  DROVER_TRY(context, tls13_context(acceptor));
  SSL_CTX* const c = context.get();
  const Certificate certificate = certificate_of(own);
  if (!certificate || SSL_CTX_use_certificate(c, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(c, own.evp()) != 1 || SSL_CTX_set1_sigalgs_list(c, "ed25519") != 1)
    return openssl_error(kWhat);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(c, verify, nullptr);
  ssl.reset(SSL_new(c));
  if (!ssl || SSL_set_app_data(ssl.get(), this) != 1) return openssl_error(kWhat);
  DROVER_CHECK(socket.attach(ssl.get()));
  if (acceptor)
    SSL_set_accept_state(ssl.get());
  else
    SSL_set_connect_state(ssl.get());
  watch_for_silence(socket.fd());
  return {};
}

Result<PeerLink::Progress> PeerLink::State::advance() {
  if (!handshaken) DROVER_CHECK(handshake());
  if (handshaken) DROVER_CHECK(read());
  auto flushed = socket.flush();
  if (!flushed) return flushed.error().within(kWhat);
  return established ? Progress::kEstablished : Progress::kConnecting;
}

Status PeerLink::State::handshake() {
  clear_openssl_errors();
  const int result = SSL_do_handshake(ssl.get());
  if (result == 1) {
    handshaken = true;
    return acceptor ? send_welcome() : Status();
  }
  Error error;
  if (socket.outcome(ssl.get(), result, "peer link: handshake", &error) == TlsOutcome::kWantsRead)
    return {};
  return refused.empty() ? error : refusal("peer link: handshake: " + refused);
}

Status PeerLink::State::send_welcome() {
  std::size_t written = 0;
  clear_openssl_errors();
  if (SSL_write_ex(ssl.get(), &kWelcome, sizeof kWelcome, &written) != 1)
    return openssl_error(kWhat);
  established = true;
  return {};
}

/// Takes the welcome; after that nothing is to be said on a link, only its end is listened for.
Status PeerLink::State::read() {
  while (true) {
    unsigned char byte = 0;
    std::size_t size = 0;
    clear_openssl_errors();
    const int result = SSL_read_ex(ssl.get(), &byte, sizeof byte, &size);
    if (result != 1) {
      Error error;
      if (socket.outcome(ssl.get(), result, kWhat, &error) == TlsOutcome::kWantsRead) return {};
      return error;
    }
    if (established || byte != kWelcome) return refusal("peer link: unexpected data");
    established = true;
  }
}

bool PeerLink::State::accept_peer(const Ed25519PublicKey& shown) {
  if (!acceptor) {
    if (shown == key) return true;
    refused = "the peer is not " + name;
    return false;
  }
  std::optional<std::string> found = find_peer ? find_peer(shown) : std::nullopt;
  if (!found) {
    refused = "the peer is no member";
    return false;
  }
  name = std::move(*found);
  key = shown;
  return true;
}

/// Replaces OpenSSL's checks of a chain of certificates: only the key counts here. That the peer
/// has its private half is proven by the handshake itself (CertificateVerify).
int PeerLink::State::verify(X509_STORE_CTX* store, void*) {
  SSL* const ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* const self = static_cast<State*>(SSL_get_app_data(ssl));
  bool accepted = false;
  try {  // nothing may be thrown through OpenSSL's frames
    const auto shown = key_in(X509_STORE_CTX_get0_cert(store));
    accepted = shown && self->accept_peer(*shown);
  } catch (...) {
    accepted = false;
  }
  X509_STORE_CTX_set_error(store, accepted ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
  return accepted;
}

}  // namespace drover
