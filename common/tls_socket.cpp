#include "common/tls_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <new>
#include <string>

#include "common/openssl_error.h"

namespace drover {
namespace {

// One read from the kernel may bring so many records' bytes.
constexpr std::size_t kReadAhead = std::size_t{128} << 10;

// No wait is longer, so that no arithmetic with times overflows.
constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);
constexpr std::chrono::milliseconds kLongestPoll = std::chrono::hours(24);

constexpr std::chrono::milliseconds kNoWait{0};

}  // namespace

void SslContextFree::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
void SslFree::operator()(SSL* ssl) const { SSL_free(ssl); }

Result<SslContext> tls13_context(bool acceptor) {
  clear_openssl_errors();
  SslContext context(SSL_CTX_new(acceptor ? TLS_server_method() : TLS_client_method()));
  SSL_CTX* const c = context.get();
  if (!c || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256") != 1 ||
      SSL_CTX_set1_groups_list(c, "X25519") != 1 || SSL_CTX_set_num_tickets(c, 0) != 1)
    return openssl_error("set up TLS");
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Nor a psk_ke handshake (no forward secrecy), an end without close_notify, or dummy records
  // for middleboxes that know only TLS 1.2.
  SSL_CTX_clear_options(
      c, SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_early_data(c, 0);
  SSL_CTX_set_recv_max_early_data(c, 0);
  SSL_CTX_set_max_cert_list(c, 4096);
  SSL_CTX_set_read_ahead(c, 1);
  SSL_CTX_set_default_read_buffer_len(c, kReadAhead);
  return context;
}

TlsSocket::TlsSocket(OwnedFd socket) : socket_(std::move(socket)) {
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK)) ::fcntl(socket_.get(), F_SETFL, flags & ~O_NONBLOCK);
  const int on = 1;  // fails on a Unix socket, which has no delay either
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Status TlsSocket::attach(SSL* ssl) {
  BIO* const bio = method() ? BIO_new(method()) : nullptr;
  if (!bio) return openssl_error("set up TLS");
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  return {};
}

Result<bool> TlsSocket::flush() {
  if (has_unsent() && write_errno_ == 0) out_sent_ += send_now(ByteView(out_).subspan(out_sent_));
  if (write_errno_ != 0) return Error{write_errno_, "send"};
  if (has_unsent()) return false;
  out_.clear();
  out_sent_ = 0;
  return true;
}

void TlsSocket::let_next_read_wait(std::chrono::milliseconds timeout) {
  timeout = std::min(timeout, kLongestPoll);
  if (timeout <= kNoWait) return;
  if (timeout != read_timeout_) {
    const timeval value{timeout.count() / 1000, timeout.count() % 1000 * 1000};
    if (::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) != 0) return;
    read_timeout_ = timeout;
  }
  next_read_waits_ = true;
}

TlsOutcome TlsSocket::outcome(SSL* ssl, int result, const char* what, Error* error) {
  const std::string prefix = what;
  switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
      return TlsOutcome::kWantsRead;
    case SSL_ERROR_ZERO_RETURN:
      *error = refusal(prefix + ": the peer closed the connection");
      return TlsOutcome::kClosed;
    case SSL_ERROR_SSL:
      if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        clear_openssl_errors();
        *error = refusal(prefix + ": the connection ended without a farewell");
      } else {
        *error = openssl_error(prefix);
      }
      return TlsOutcome::kFailed;
    default:
      clear_openssl_errors();
      *error =
          read_errno_ ? Error{read_errno_, prefix} : refusal(prefix + ": the connection broke");
      return TlsOutcome::kFailed;
  }
}

BIO_METHOD* TlsSocket::method() {
  struct Free {
    void operator()(BIO_METHOD* m) const { BIO_meth_free(m); }
  };
  static const std::unique_ptr<BIO_METHOD, Free> made = [] {
    std::unique_ptr<BIO_METHOD, Free> m(
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "drover socket"));
    if (m && (BIO_meth_set_write_ex(m.get(), bio_write) != 1 ||
              BIO_meth_set_read_ex(m.get(), bio_read) != 1 ||
              BIO_meth_set_ctrl(m.get(), bio_control) != 1))
      m.reset();
    return m;
  }();
  return made.get();
}

int TlsSocket::bio_write(BIO* bio, const char* data, std::size_t size, std::size_t* written) {
  auto* const self = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  self->write({reinterpret_cast<const std::byte*>(data), size});
  *written = size;
  return 1;
}

int TlsSocket::bio_read(BIO* bio, char* data, std::size_t size, std::size_t* read) {
  auto* const self = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const int flags = std::exchange(self->next_read_waits_, false) ? 0 : MSG_DONTWAIT;
  const ssize_t n = ::recv(self->fd(), data, size, flags);
  if (n > 0) {
    self->received_ += static_cast<std::uint64_t>(n);
    *read = static_cast<std::size_t>(n);
    return 1;
  }
  *read = 0;
  if (n == 0) {
    self->at_end_ = size > 0;
  } else if (errno == EAGAIN || errno == EINTR) {
    BIO_set_retry_read(bio);
  } else {
    self->read_errno_ = errno;
  }
  return 0;
}

long TlsSocket::bio_control(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return static_cast<TlsSocket*>(BIO_get_data(bio))->at_end_;
    default:
      return 0;
  }
}

void TlsSocket::write(ByteView data) {
  try {
    if (!corked_ && !has_unsent()) data = data.subspan(send_now(data));
    out_.insert(out_.end(), data.begin(), data.end());
  } catch (const std::bad_alloc&) {
    write_errno_ = ENOMEM;  // must not leave through OpenSSL's frames
  }
}

/// How much of `data` the kernel took. After an error nothing can be sent any more, but what the
/// peer said before it went can still be read: reading must not fail because writing did.
std::size_t TlsSocket::send_now(ByteView data) {
  if (write_errno_ != 0) return data.size();
  ssize_t n;
  do {
    n = ::send(fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == EAGAIN) return 0;
    write_errno_ = errno;
    return data.size();
  }
  sent_ += static_cast<std::uint64_t>(n);
  return static_cast<std::size_t>(n);
}

Result<short> wait_for(int fd, short events, std::chrono::milliseconds timeout) {
  pollfd p{fd, events, 0};
  const int n = ::poll(&p, 1, static_cast<int>(std::min(timeout, kLongestPoll).count()));
  if (n < 0 && errno != EINTR) return errno_error("poll");
  return n > 0 ? p.revents : short{0};
}

std::chrono::steady_clock::time_point deadline_after(std::chrono::milliseconds timeout) {
  return std::chrono::steady_clock::now() + std::clamp(timeout, kNoWait, kLongest);
}

std::chrono::milliseconds time_left(std::chrono::steady_clock::time_point deadline) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return std::max(left, kNoWait);
}

}  // namespace drover
