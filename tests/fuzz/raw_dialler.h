// The dialler's side of a secure channel, written straight on OpenSSL: what a peer that has the
// right key but says whatever it likes can do. It shares no code with the channel.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string_view>

namespace drover::testing {

class RawDialler {
 public:
  /// Uses `socket` (blocking, borrowed) and presents `key` under `name`.
  RawDialler(int socket, const std::array<std::byte, 32>& key,
             std::string_view name = "drover channel 1")
      : key_(key), name_(name), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
    SSL_CTX_set_psk_use_session_callback(context_, present);
    ssl_ = SSL_new(context_);
    SSL_set_app_data(ssl_, this);
    SSL_set_fd(ssl_, socket);
  }
  RawDialler(const RawDialler&) = delete;
  RawDialler& operator=(const RawDialler&) = delete;
  ~RawDialler() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  bool connect() {
    return uninterrupted([&] { return SSL_connect(ssl_); }) == 1;
  }
  /// Plaintext of any kind, in records as OpenSSL cuts them.
  bool write(std::span<const std::byte> plain) {
    std::size_t written = 0;
    return plain.empty() || uninterrupted([&] {
                              return SSL_write_ex(ssl_, plain.data(), plain.size(), &written);
                            }) == 1;
  }
  bool close() { return SSL_shutdown(ssl_) >= 0; }
  SSL* ssl() { return ssl_; }

 private:
  /// Calls again while a signal interrupts: libFuzzer's alarm does, every few seconds.
  template <class Call>
  static int uninterrupted(Call call) {
    int result;
    do {
      errno = 0;
      result = call();
    } while (result <= 0 && errno == EINTR);
    return result;
  }

  static int present(SSL* ssl, const EVP_MD*, const unsigned char** name, std::size_t* size,
                     SSL_SESSION** session) {
    auto* const self = static_cast<RawDialler*>(SSL_get_app_data(ssl));
    static constexpr unsigned char kCipher[] = {0x13, 0x01};
    *session = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(*session, reinterpret_cast<const unsigned char*>(self->key_.data()),
                                self->key_.size());
    SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, kCipher));
    SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
    *name = reinterpret_cast<const unsigned char*>(self->name_.data());
    *size = self->name_.size();
    return 1;
  }

  std::array<std::byte, 32> key_;
  std::string_view name_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
};

}  // namespace drover::testing
