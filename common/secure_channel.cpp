#include "common/secure_channel.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "common/openssl_error.h"
#include "common/tls_socket.h"

namespace drover {
namespace {

// Both sides know which key to use, so its name says only what protocol this is.
constexpr std::string_view kKeyName = "drover channel 1";

constexpr std::size_t kRecord = SSL3_RT_MAX_PLAIN_LENGTH;  // 16 KiB

// So much of a large frame is encrypted before the kernel gets it in one call.
constexpr std::size_t kBurst = 8 * kRecord;

// One AES-GCM key may protect 2^24.5 full records (RFC 8446, 5.5); OpenSSL does not count them.
constexpr std::uint64_t kRecordsPerKey = std::uint64_t{1} << 23;

// While a send waits, reading pauses after so many records to see whether the socket takes more.
constexpr int kReadsBetweenSends = 64;

}  // namespace

struct SecureChannel::State {
  explicit State(OwnedFd fd) : socket(std::move(fd)) {}
  ~State() { OPENSSL_cleanse(key.data(), key.size()); }

  Status set_up(ChannelRole role);
  Status handshake(std::chrono::milliseconds timeout);
  void read_frames(int most_records, bool stop_at_frame);
  Status write(ByteView data);
  Status flush(std::chrono::milliseconds patience);
  Status wait_to_send(std::chrono::milliseconds timeout);
  // A peer that said farewell may still be reading; after any other end nobody is.
  bool connection_broken() const { return receive_error && !peer_closed; }

  TlsSocket socket;
  Ssl ssl;  // after the socket: it is destroyed first
  ChannelKey key{};
  FrameAssembler frames;
  std::optional<Error> receive_error;
  std::optional<Error> send_error;
  bool peer_closed = false;
  std::uint64_t records_with_this_key = 0;
  std::chrono::milliseconds stall = kSendStall;
  std::array<std::byte, kRecord> plain;
  std::array<std::byte, kRecord> gathered;
};

namespace {

struct SessionFree {
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using Session = std::unique_ptr<SSL_SESSION, SessionFree>;

/// The key as OpenSSL wants an external PSK: a session that never was.
Session session_of(SSL* ssl) {
  const auto* key = static_cast<const ChannelKey*>(SSL_get_app_data(ssl));
  if (!key) return nullptr;  // only during the handshake
  static constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kAes128GcmSha256);
  Session session(SSL_SESSION_new());
  if (!cipher || !session ||
      SSL_SESSION_set1_master_key(
          session.get(), reinterpret_cast<const unsigned char*>(key->data()), key->size()) != 1 ||
      SSL_SESSION_set_cipher(session.get(), cipher) != 1 ||
      SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) != 1)
    return nullptr;
  return session;
}

int use_key(SSL* ssl, const EVP_MD*, const unsigned char** name, std::size_t* size,
            SSL_SESSION** session) {
  *name = reinterpret_cast<const unsigned char*>(kKeyName.data());
  *size = kKeyName.size();
  *session = session_of(ssl).release();
  return *session != nullptr;
}

int find_key(SSL* ssl, const unsigned char* name, std::size_t size, SSL_SESSION** session) {
  *session = nullptr;
  const std::string_view asked(reinterpret_cast<const char*>(name), size);
  if (asked == kKeyName) *session = session_of(ssl).release();
  return *session != nullptr;  // 0 ends the handshake
}

Result<SslContext> make_context(ChannelRole role) {
  DROVER_TRY(SslContext context, tls13_context(role == ChannelRole::kAcceptor));
  if (role == ChannelRole::kAcceptor) {
    SSL_CTX_set_psk_find_session_callback(context.get(), find_key);
  } else {
    SSL_CTX_set_psk_use_session_callback(context.get(), use_key);
    // No certificate is trusted: a server that offers one instead of the key is refused.
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  return context;
}

/// One for all channels of a process: making one costs more than a handshake.
const Result<SslContext>& context_for(ChannelRole role) {
  static const Result<SslContext> dialler = make_context(ChannelRole::kDialler);
  static const Result<SslContext> acceptor = make_context(ChannelRole::kAcceptor);
  return role == ChannelRole::kDialler ? dialler : acceptor;
}

Error moved_from() { return refusal("secure channel: ended here"); }

}  // namespace

Result<SecureChannel> SecureChannel::open(OwnedFd socket, ChannelRole role, const ChannelKey& key,
                                          std::chrono::milliseconds timeout) {
  std::unique_ptr<State> state(new (std::nothrow) State(std::move(socket)));
  if (!state) return Error{ENOMEM, "secure channel"};
  state->key = key;
  DROVER_CHECK(state->set_up(role));
  DROVER_CHECK(state->handshake(timeout));
  SSL_set_app_data(state->ssl.get(), nullptr);
  OPENSSL_cleanse(state->key.data(), state->key.size());
  return SecureChannel(std::move(state));
}

SecureChannel::SecureChannel(std::unique_ptr<State> state) : state_(std::move(state)) {}
SecureChannel::SecureChannel(SecureChannel&&) noexcept = default;
SecureChannel& SecureChannel::operator=(SecureChannel&&) noexcept = default;
SecureChannel::~SecureChannel() = default;

Status SecureChannel::send(std::uint16_t type, ByteView head, ByteView body) {
  if (!state_) return moved_from();
  State& s = *state_;
  if (s.send_error) return *s.send_error;
  if (s.connection_broken()) return *s.receive_error;
  if (head.size() > kMaxFrame || body.size() > kMaxFrame - head.size())
    return refusal("secure channel: send: frame is larger than allowed");

  // Header, head and as much of the body as fits share the first record.
  const auto header = frame_header(type, head.size() + body.size());
  std::size_t filled = 0;
  const auto gather = [&](ByteView& from) {
    const std::size_t n = std::min(from.size(), s.gathered.size() - filled);
    if (n != 0) std::memcpy(s.gathered.data() + filled, from.data(), n);
    filled += n;
    from = from.subspan(n);
  };
  ByteView start = header;
  gather(start);
  gather(head);
  gather(body);
  Status sent = s.write(ByteView(s.gathered).first(filled));
  if (sent && !head.empty()) sent = s.write(head);
  if (sent && !body.empty()) sent = s.write(body);
  if (!sent) s.send_error = sent.error();
  return sent;
}

Result<std::optional<Frame>> SecureChannel::receive() {
  if (!state_) return moved_from();
  State& s = *state_;
  if (s.frames.empty()) s.read_frames(INT32_MAX, true);
  if (auto frame = s.frames.next()) return frame;
  if (s.receive_error) return *s.receive_error;
  return std::optional<Frame>();
}

Result<Frame> SecureChannel::receive_within(std::chrono::milliseconds timeout) {
  if (!state_) return moved_from();
  State& s = *state_;
  const auto deadline = deadline_after(timeout);
  // The first read waits in the kernel, which saves a poll for each small round trip.
  if (s.frames.empty() && !s.socket.has_unsent() && SSL_has_pending(s.ssl.get()) == 0)
    s.socket.let_next_read_wait(timeout);
  while (true) {
    auto received = receive();
    s.socket.forget_wait();
    DROVER_TRY(auto frame, std::move(received));
    if (frame) return std::move(*frame);
    const auto left = time_left(deadline);
    if (left.count() == 0) return Error{ETIMEDOUT, "secure channel: receive"};
    const short events = s.socket.has_unsent() ? POLLIN | POLLOUT : POLLIN;
    DROVER_CHECK(wait_for(s.socket.fd(), events, left));
  }
}

Status SecureChannel::close(std::chrono::milliseconds timeout) {
  if (!state_) return moved_from();
  State& s = *state_;
  if (s.send_error) return *s.send_error;
  clear_openssl_errors();
  SSL_shutdown(s.ssl.get());
  Status flushed = s.flush(timeout);
  s.send_error = flushed ? refusal("secure channel: send: closed here") : flushed.error();
  ::shutdown(s.socket.fd(), SHUT_WR);
  return flushed;
}

// A connection that is closed with no time to linger is reset (tcp_close in net/ipv4/tcp.c).
void SecureChannel::abort() {
  if (!state_) return;
  const linger at_once{1, 0};
  ::setsockopt(state_->socket.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  state_.reset();
}

bool SecureChannel::peer_closed() const { return state_ && state_->peer_closed; }
void SecureChannel::allow_stall(std::chrono::milliseconds stall) {
  if (state_) state_->stall = stall;
}

int SecureChannel::poll_fd() const { return state_ ? state_->socket.fd() : -1; }
std::uint64_t SecureChannel::bytes_sent() const { return state_ ? state_->socket.bytes_sent() : 0; }
std::uint64_t SecureChannel::bytes_received() const {
  return state_ ? state_->socket.bytes_received() : 0;
}

Status SecureChannel::State::set_up(ChannelRole role) {
  const Result<SslContext>& context = context_for(role);
  if (!context) return context.error();
  clear_openssl_errors();
  ssl.reset(SSL_new(context->get()));
  if (!ssl || SSL_set_app_data(ssl.get(), &key) != 1) return openssl_error("secure channel");
  DROVER_CHECK(socket.attach(ssl.get()));
  if (role == ChannelRole::kAcceptor)
    SSL_set_accept_state(ssl.get());
  else
    SSL_set_connect_state(ssl.get());
  return {};
}

Status SecureChannel::State::handshake(std::chrono::milliseconds timeout) {
  constexpr const char* kWhat = "secure channel: handshake";
  const auto deadline = deadline_after(timeout);
  bool done = false;
  while (true) {
    if (!done) {
      clear_openssl_errors();
      const int result = SSL_do_handshake(ssl.get());
      done = result == 1;
      Error error;
      if (!done && socket.outcome(ssl.get(), result, kWhat, &error) != TlsOutcome::kWantsRead)
        return error;
    }
    auto flushed = socket.flush();
    if (!flushed) return flushed.error().within(kWhat);
    if (done && *flushed) break;
    const auto left = time_left(deadline);
    if (left.count() == 0) return Error{ETIMEDOUT, kWhat};
    const short events = static_cast<short>((done ? 0 : POLLIN) | (*flushed ? 0 : POLLOUT));
    DROVER_CHECK(wait_for(socket.fd(), events, left));
  }
  // The key, not anything else, is what made this handshake succeed.
  if (SSL_session_reused(ssl.get()) != 1)
    return refusal("secure channel: handshake: the key was not used");
  return {};
}

/// Reads until the socket is dry, `most_records` are read, or (if `stop_at_frame`) a frame is
/// there. What goes wrong becomes receive_error.
void SecureChannel::State::read_frames(int most_records, bool stop_at_frame) {
  constexpr const char* kWhat = "secure channel: receive";
  while (!receive_error && most_records-- > 0 && !(stop_at_frame && !frames.empty())) {
    clear_openssl_errors();
    std::size_t size = 0;
    const int result = SSL_read_ex(ssl.get(), plain.data(), plain.size(), &size);
    if (result == 1) {
      if (Status fed = frames.feed(ByteView(plain).first(size)); !fed)
        receive_error = fed.error().within(kWhat);
      continue;
    }
    Error error;
    switch (socket.outcome(ssl.get(), result, kWhat, &error)) {
      case TlsOutcome::kWantsRead:
        // Reading may have made TLS answer (a key update, an alert).
        if (socket.has_unsent()) static_cast<void>(socket.flush().ok());
        return;
      case TlsOutcome::kClosed:
        peer_closed = !frames.inside_frame();
        if (!peer_closed) error = refusal("secure channel: receive: closed inside a frame");
        break;
      case TlsOutcome::kFailed:
        break;
    }
    receive_error = error;
  }
}

/// Encrypts and sends all of `data`.
Status SecureChannel::State::write(ByteView data) {
  while (!data.empty()) {
    const ByteView burst = data.first(std::min(data.size(), kBurst));
    const std::uint64_t records = (burst.size() + kRecord - 1) / kRecord;
    clear_openssl_errors();
    records_with_this_key += records;
    if (records_with_this_key > kRecordsPerKey) {
      if (SSL_key_update(ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
        return openssl_error("secure channel: send");
      records_with_this_key = records;
    }
    if (records > 1) socket.cork();
    std::size_t written = 0;
    const int result = SSL_write_ex(ssl.get(), burst.data(), burst.size(), &written);
    socket.uncork();
    if (result != 1) {  // not for want of room: the socket takes everything
      Error error;
      if (socket.outcome(ssl.get(), result, "secure channel: send", &error) ==
          TlsOutcome::kWantsRead)
        error = refusal("secure channel: send: TLS is out of step");
      return error;
    }
    DROVER_CHECK(flush(stall));
    data = data.subspan(burst.size());
  }
  return {};
}

/// Gives the kernel all that is kept, reading while that has to wait.
Status SecureChannel::State::flush(std::chrono::milliseconds patience) {
  auto deadline = std::chrono::steady_clock::time_point{};  // only asked for when it blocks
  std::uint64_t sent_before = socket.bytes_sent();
  while (true) {
    auto flushed = socket.flush();
    if (!flushed) return flushed.error().within("secure channel");
    if (*flushed) return {};
    if (deadline == std::chrono::steady_clock::time_point{} || socket.bytes_sent() != sent_before) {
      deadline = deadline_after(patience);
      sent_before = socket.bytes_sent();
    }
    const auto left = time_left(deadline);
    if (left.count() == 0) return Error{ETIMEDOUT, "secure channel: send"};
    DROVER_CHECK(wait_to_send(left));
  }
}

Status SecureChannel::State::wait_to_send(std::chrono::milliseconds timeout) {
  if (connection_broken()) return *receive_error;
  const bool reading = !receive_error && frames.queued_bytes() < kMaxQueued;
  DROVER_TRY(
      const short events,
      wait_for(socket.fd(), static_cast<short>(reading ? POLLIN | POLLOUT : POLLOUT), timeout));
  if (reading && (events & (POLLIN | POLLHUP | POLLERR))) read_frames(kReadsBetweenSends, false);
  return {};
}

}  // namespace drover
