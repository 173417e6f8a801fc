// What a secure channel costs over the TCP connection it runs on. Both run between two threads
// over loopback; round trips alternate between them, so that whatever else the machine does
// weighs on both alike. Prints one JSON object. Usage: channel_bench [MEGABYTES]
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "common/secure_channel.h"

namespace {

using namespace drover;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kSmall = 64;
constexpr std::size_t kLarge = std::size_t{1} << 20;
constexpr int kRounds = 100;
constexpr int kTripsARound = 200;
constexpr int kHandshakes = 100;

[[noreturn]] void die(const Error& error) {
  std::fprintf(stderr, "channel_bench: %s\n", error.message().c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> result) {
  if (!result) die(result.error());
  return *std::move(result);
}
void must(Status status) {
  if (!status) die(status.error());
}

std::pair<OwnedFd, OwnedFd> tcp_pair() {
  const OwnedFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const a = reinterpret_cast<sockaddr*>(&address);
  OwnedFd dialler(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), a, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), a, &size) != 0 || ::connect(dialler.get(), a, size) != 0)
    die(errno_error("connect over loopback"));
  OwnedFd acceptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  for (int fd : {dialler.get(), acceptor.get()}) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return {std::move(dialler), std::move(acceptor)};
}

std::pair<SecureChannel, SecureChannel> channel_pair() {
  auto [a, b] = tcp_pair();
  const ChannelKey key{std::byte{42}};
  std::optional<SecureChannel> acceptor;
  std::thread thread([&, b = std::move(b)]() mutable {
    acceptor = must(SecureChannel::open(std::move(b), ChannelRole::kAcceptor, key, 5s));
  });
  SecureChannel dialler = must(SecureChannel::open(std::move(a), ChannelRole::kDialler, key, 5s));
  thread.join();
  return {std::move(dialler), *std::move(acceptor)};
}

void raw_send(int fd, ByteView data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n <= 0) die(errno_error("send"));
    data = data.subspan(static_cast<std::size_t>(n));
  }
}
/// False at the end of the stream.
bool raw_receive(int fd, std::span<std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::recv(fd, data.data(), data.size(), 0);
    if (n < 0) die(errno_error("recv"));
    if (n == 0) return false;
    data = data.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

double microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct RoundTrips {
  double raw_us;
  double channel_us;
};

RoundTrips round_trips() {
  auto [raw, raw_far] = tcp_pair();
  auto [channel, channel_far] = channel_pair();
  std::thread raw_echo([fd = raw_far.get()] {
    std::array<std::byte, kSmall> data;
    while (raw_receive(fd, data)) raw_send(fd, data);
  });
  std::thread channel_echo([&far = channel_far] {
    while (true) {
      auto frame = far.receive_within(60s);
      if (!frame) return;
      must(far.send(frame->type, frame->payload));
    }
  });
  std::array<std::byte, kSmall> data{};
  std::vector<double> raw_times, channel_times;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kTripsARound; ++i) {
      const auto start = Clock::now();
      raw_send(raw.get(), data);
      raw_receive(raw.get(), data);
      raw_times.push_back(microseconds(Clock::now() - start));
    }
    for (int i = 0; i < kTripsARound; ++i) {
      const auto start = Clock::now();
      must(channel.send(1, data));
      must(channel.receive_within(60s));
      channel_times.push_back(microseconds(Clock::now() - start));
    }
  }
  ::shutdown(raw.get(), SHUT_RDWR);
  must(channel.close());
  raw_echo.join();
  channel_echo.join();
  return {median(raw_times), median(channel_times)};
}

/// User and system time of all threads so far, in seconds: what a busy machine does not distort.
double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Bulk {
  double megabytes_per_second;
  double cpu_seconds_per_gigabyte;  // of both sides together
};

class BulkClock {
 public:
  Bulk stop(std::size_t bytes) const {
    const auto b = static_cast<double>(bytes);
    return {b / microseconds(Clock::now() - start_), (cpu_seconds() - cpu_start_) * 1e9 / b};
  }

 private:
  Clock::time_point start_ = Clock::now();
  double cpu_start_ = cpu_seconds();
};

Bulk raw_bulk(std::size_t frames) {
  auto [near, far] = tcp_pair();
  const Bytes data(kLarge, std::byte{7});
  const BulkClock clock;
  std::thread sender([&, fd = near.get()] {
    for (std::size_t i = 0; i < frames; ++i) raw_send(fd, data);
  });
  Bytes into(kLarge);
  for (std::size_t i = 0; i < frames; ++i) raw_receive(far.get(), into);
  const Bulk bulk = clock.stop(frames * kLarge);
  sender.join();
  return bulk;
}

Bulk channel_bulk(std::size_t frames) {
  auto [near, far] = channel_pair();
  const Bytes data(kLarge, std::byte{7});
  const BulkClock clock;
  std::thread sender([&, &channel = near] {
    for (std::size_t i = 0; i < frames; ++i) must(channel.send(1, {}, data));
  });
  for (std::size_t i = 0; i < frames; ++i) must(far.receive_within(60s));
  const Bulk bulk = clock.stop(frames * kLarge);
  sender.join();
  return bulk;
}

double handshake_us() {
  std::vector<double> times;
  for (int i = 0; i < kHandshakes; ++i) {
    const auto start = Clock::now();
    channel_pair();
    times.push_back(microseconds(Clock::now() - start));
  }
  return median(times);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t megabytes = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : std::size_t{1024};
  if (megabytes == 0) {
    std::fprintf(stderr, "channel_bench: %s: not a number of megabytes\n", argv[1]);
    return 2;
  }
  const RoundTrips trips = round_trips();
  nlohmann::json out;
  out["round_trip_bytes"] = kSmall;
  out["raw_tcp_round_trip_us"] = trips.raw_us;
  out["channel_round_trip_us"] = trips.channel_us;
  out["round_trip_ratio"] = trips.channel_us / trips.raw_us;
  out["bulk_bytes"] = megabytes * kLarge;
  const Bulk raw = raw_bulk(megabytes), channel = channel_bulk(megabytes);
  out["raw_tcp_mb_per_s"] = raw.megabytes_per_second;
  out["raw_tcp_cpu_s_per_gb"] = raw.cpu_seconds_per_gigabyte;
  out["channel_mb_per_s"] = channel.megabytes_per_second;
  out["channel_cpu_s_per_gb"] = channel.cpu_seconds_per_gigabyte;
  out["connect_and_handshake_us"] = handshake_us();
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}
