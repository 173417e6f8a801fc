// A connected stream socket as OpenSSL sees it: the lower end of a TLS connection.
//
// OpenSSL's own socket BIO raises SIGPIPE, and makes every write a thing that may have to be
// repeated. This one never refuses a write: what the kernel does not take at once is kept in
// order and leaves with flush(). So TLS never waits for the socket to become writable, and reading
// goes on whatever the state of writing.
#pragma once

#include <openssl/bio.h>
#include <openssl/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/owned_fd.h"
#include "common/result.h"
#include "common/wire.h"

namespace drover {

struct SslContextFree {
  void operator()(SSL_CTX* context) const;
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextFree>;

struct SslFree {
  void operator()(SSL* ssl) const;
};
using Ssl = std::unique_ptr<SSL, SslFree>;

/// A context for TLS 1.3 only, X25519 and TLS_AES_128_GCM_SHA256 only, without tickets, session
/// cache, early data or renegotiation.
Result<SslContext> tls13_context(bool acceptor);

/// What became of one call into OpenSSL that did not succeed.
enum class TlsOutcome { kWantsRead, kClosed, kFailed };

class TlsSocket {
 public:
  /// The socket's mode is made blocking: every call here says for itself whether it waits.
  explicit TlsSocket(OwnedFd socket);
  TlsSocket(const TlsSocket&) = delete;
  TlsSocket& operator=(const TlsSocket&) = delete;

  /// Makes this the lower end of `ssl`, which must not outlive it.
  Status attach(SSL* ssl);

  /// Sends what is kept, without waiting: true when nothing is left. A connection broken for
  /// writing is an error here, and from here on every time.
  Result<bool> flush();
  bool has_unsent() const { return out_sent_ < out_.size(); }

  /// Between these, writes are gathered and leave together at uncork().
  void cork() { corked_ = true; }
  void uncork() { corked_ = false; }

  /// Lets the next read wait for data, up to `timeout`; only that one.
  void let_next_read_wait(std::chrono::milliseconds timeout);
  void forget_wait() { next_read_waits_ = false; }

  /// What the failure of a call on `ssl` that returned `result` means. For kFailed, `error` says
  /// why, in one line that starts with `what`.
  TlsOutcome outcome(SSL* ssl, int result, const char* what, Error* error);

  int fd() const { return socket_.get(); }
  std::uint64_t bytes_sent() const { return sent_; }
  std::uint64_t bytes_received() const { return received_; }

 private:
  static BIO_METHOD* method();
  static int bio_write(BIO* bio, const char* data, std::size_t size, std::size_t* written);
  static int bio_read(BIO* bio, char* data, std::size_t size, std::size_t* read);
  static long bio_control(BIO* bio, int command, long number, void* pointer);

  void write(ByteView data);
  std::size_t send_now(ByteView data);

  OwnedFd socket_;
  Bytes out_;
  std::size_t out_sent_ = 0;
  bool corked_ = false;
  bool next_read_waits_ = false;
  bool at_end_ = false;
  int read_errno_ = 0;
  int write_errno_ = 0;
  std::chrono::milliseconds read_timeout_{0};  // as the kernel has it, 0: not set
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

/// Waits until `fd` is ready for one of `events` (poll(2)) or `timeout` has passed. Returns the
/// events, 0 for none in time; a signal is as good as nothing having happened.
Result<short> wait_for(int fd, short events, std::chrono::milliseconds timeout);

/// A point in time that is `timeout` from now, for any timeout however large.
std::chrono::steady_clock::time_point deadline_after(std::chrono::milliseconds timeout);
/// What is left until `deadline`, never negative, rounded up.
std::chrono::milliseconds time_left(std::chrono::steady_clock::time_point deadline);

}  // namespace drover
