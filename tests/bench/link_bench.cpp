// What the link between two nodes gives to a program that does nothing else: the peer of the
// figures in move and syscall. Plain sockets and OpenSSL, nothing of Drover's channel.
//
//   link_bench serve PORT              answers `ask`s, one after the other, until killed
//   link_bench ask HOST PORT [MEGABYTES]  measures, prints one JSON object
//   link_bench take PORT               one TCP connection to stdout
//   link_bench put HOST PORT           stdin to a TCP connection
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/owned_fd.h"

namespace {

using drover::OwnedFd;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kSmall = 64;
constexpr std::size_t kLarge = std::size_t{1} << 18;  // as large as one read of the engine's
constexpr int kRounds = 20;
constexpr int kTripsARound = 100;

// The first byte of a connection says what it is for.
enum class Purpose : char { kPlainEcho = 'p', kTlsEcho = 't', kReused = 'r', kFresh = 'f' };

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "link_bench: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void no_delay(int fd) {
  const int on = 1;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

OwnedFd listen_on(const char* port) {
  OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::strtoul(port, nullptr, 10)));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 8) != 0)
    die(std::string("listen on ") + port);
  return fd;
}

OwnedFd accept_from(int listener) {
  OwnedFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) die("accept");
  no_delay(fd.get());
  return fd;
}

OwnedFd connect_to(const char* host, const char* port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host, port, &hints, &found) != 0) die(host);
  OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool connected = ::connect(fd.get(), found->ai_addr, found->ai_addrlen) == 0;
  ::freeaddrinfo(found);
  if (!connected) die(std::string("connect to ") + host);
  no_delay(fd.get());
  return fd;
}

void plain_write(int fd, const void* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = ::write(fd, static_cast<const char*>(data) + done, size - done);
    if (n <= 0) die("write");
    done += static_cast<std::size_t>(n);
  }
}
/// False at the end of the stream.
bool plain_read(int fd, void* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = ::read(fd, static_cast<char*>(data) + done, size - done);
    if (n < 0) die("read");
    if (n == 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

// TLS 1.3 with AES-128-GCM, as the data channel has it. The key is no secret: nothing is hidden.
constexpr std::array<unsigned char, 32> kKey{42};

unsigned client_key(SSL*, const char*, char* identity, unsigned identity_size, unsigned char* key,
                    unsigned key_size) {
  if (identity_size < 6 || key_size < kKey.size()) return 0;
  std::memcpy(identity, "bench", 6);
  std::memcpy(key, kKey.data(), kKey.size());
  return kKey.size();
}
unsigned server_key(SSL*, const char*, unsigned char* key, unsigned key_size) {
  if (key_size < kKey.size()) return 0;
  std::memcpy(key, kKey.data(), kKey.size());
  return kKey.size();
}

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

class Tls {
 public:
  Tls(OwnedFd socket, bool server) : socket_(std::move(socket)) {
    SSL_CTX* const context = SSL_CTX_new(TLS_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_psk_client_callback(context, client_key);
    SSL_CTX_set_psk_server_callback(context, server_key);
    SSL_CTX_set_num_tickets(context, 0);
    ssl_.reset(SSL_new(context));
    SSL_CTX_free(context);
    SSL_set_fd(ssl_.get(), socket_.get());
    if ((server ? SSL_accept(ssl_.get()) : SSL_connect(ssl_.get())) != 1) die("TLS handshake");
  }

  void write(const void* data, std::size_t size) {
    if (SSL_write(ssl_.get(), data, static_cast<int>(size)) <= 0) die("TLS write");
  }
  /// False at the end of the stream.
  bool read(void* data, std::size_t size) {
    for (std::size_t done = 0; done < size;) {
      const int n =
          SSL_read(ssl_.get(), static_cast<char*>(data) + done, static_cast<int>(size - done));
      if (n <= 0) return false;
      done += static_cast<std::size_t>(n);
    }
    return true;
  }

 private:
  OwnedFd socket_;
  std::unique_ptr<SSL, SslFree> ssl_;
};

void sink(Tls& tls, bool fresh) {
  std::uint64_t size = 0;
  if (!tls.read(&size, sizeof size)) die("TLS read");
  const std::size_t mapped = fresh ? size : kLarge;
  void* const memory =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  for (std::uint64_t done = 0; done < size; done += kLarge)
    if (!tls.read(static_cast<char*>(memory) + (fresh ? done : 0), kLarge)) die("TLS read");
  tls.write("d", 1);
  ::munmap(memory, mapped);
}

void serve_one(OwnedFd socket) {
  char purpose = 0;
  if (!plain_read(socket.get(), &purpose, 1)) return;
  std::array<char, kSmall> data;
  switch (Purpose{purpose}) {
    case Purpose::kPlainEcho:
      while (plain_read(socket.get(), data.data(), kSmall))
        plain_write(socket.get(), data.data(), kSmall);
      return;
    case Purpose::kTlsEcho: {
      Tls tls(std::move(socket), true);
      while (tls.read(data.data(), kSmall)) tls.write(data.data(), kSmall);
      return;
    }
    case Purpose::kReused:
    case Purpose::kFresh: {
      Tls tls(std::move(socket), true);
      sink(tls, Purpose{purpose} == Purpose::kFresh);
      return;
    }
  }
}

int serve(const char* port) {
  const OwnedFd listener = listen_on(port);
  // A child each, since the two echo connections of one `ask` are open at a time.
  std::signal(SIGCHLD, SIG_IGN);
  while (true) {
    OwnedFd socket = accept_from(listener.get());
    if (::fork() == 0) {
      serve_one(std::move(socket));
      std::exit(0);
    }
  }
}

OwnedFd open_for(Purpose purpose, const char* host, const char* port) {
  OwnedFd socket = connect_to(host, port);
  plain_write(socket.get(), &purpose, 1);
  return socket;
}

double bulk_mb_per_s(Purpose purpose, const char* host, const char* port, std::uint64_t megabytes) {
  Tls tls(open_for(purpose, host, port), false);
  const std::vector<char> data(kLarge, 7);
  const std::uint64_t size = megabytes << 20;
  const auto start = Clock::now();
  tls.write(&size, sizeof size);
  for (std::uint64_t done = 0; done < size; done += kLarge) tls.write(data.data(), kLarge);
  char done = 0;
  if (!tls.read(&done, 1)) die("TLS read");
  return static_cast<double>(size) / 1e6 / seconds_since(start);
}

int ask(const char* host, const char* port, std::uint64_t megabytes) {
  std::vector<double> plain_us, tls_us;
  {
    const OwnedFd plain = open_for(Purpose::kPlainEcho, host, port);
    Tls tls(open_for(Purpose::kTlsEcho, host, port), false);
    std::array<char, kSmall> data{};
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kTripsARound; ++i) {
        const auto start = Clock::now();
        plain_write(plain.get(), data.data(), kSmall);
        if (!plain_read(plain.get(), data.data(), kSmall)) die("the echo ended");
        plain_us.push_back(seconds_since(start) * 1e6);
      }
      for (int i = 0; i < kTripsARound; ++i) {
        const auto start = Clock::now();
        tls.write(data.data(), kSmall);
        if (!tls.read(data.data(), kSmall)) die("the TLS echo ended");
        tls_us.push_back(seconds_since(start) * 1e6);
      }
    }
  }
  nlohmann::json out = {{"tcp_round_trip_us", median(plain_us)},
                        {"tls_round_trip_us", median(tls_us)}};
  if (megabytes > 0) {
    out["tls_mb_per_s"] = bulk_mb_per_s(Purpose::kReused, host, port, megabytes);
    out["tls_fresh_memory_mb_per_s"] = bulk_mb_per_s(Purpose::kFresh, host, port, megabytes);
  }
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

int pump(int from, int to) {
  std::vector<char> data(kLarge);
  while (true) {
    const ssize_t n = ::read(from, data.data(), data.size());
    if (n < 0) die("read");
    if (n == 0) return 0;
    plain_write(to, data.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "serve" && argc == 3) return serve(argv[2]);
  if (verb == "ask" && (argc == 4 || argc == 5))
    return ask(argv[2], argv[3], argc == 5 ? std::strtoull(argv[4], nullptr, 10) : 0);
  if (verb == "take" && argc == 3)
    return pump(accept_from(listen_on(argv[2]).get()).get(), STDOUT_FILENO);
  if (verb == "put" && argc == 4) return pump(STDIN_FILENO, connect_to(argv[2], argv[3]).get());
  std::fprintf(stderr,
               "link_bench: usage: link_bench serve PORT | ask HOST PORT [MEGABYTES] | "
               "take PORT | put HOST PORT\n");
  return 2;
}
