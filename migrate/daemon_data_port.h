// The one data port: what comes in is passed on after its preamble, what goes out is dialled
// and given its preamble. Nothing here reads further.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/owned_fd.h"
#include "common/result.h"
#include "migrate/daemon_events.h"
#include "migrate/tickets.h"

namespace drover {

/// Accepts connections and reads their preambles.
class DataPort {
 public:
  /// Takes over a connected socket whose preamble has been read.
  using Receiver = std::function<void(OwnedFd socket, const Preamble& preamble)>;

  /// Listens at `host` (an IP address) and `port`; 0 takes any, see port().
  static Result<std::unique_ptr<DataPort>> open(EventLoop& loop, const std::string& host,
                                                std::uint16_t port, Receiver receiver);
  std::uint16_t port() const { return port_; }

  /// A connection that has not sent its preamble by then is closed.
  static constexpr std::chrono::seconds kPreamblePatience{5};
  /// So many may be without a preamble; one more, and the oldest of them is closed.
  static constexpr std::size_t kMostPending = 256;

 private:
  struct Pending {
    OwnedFd socket;
    std::array<std::byte, kPreambleBytes> data{};
    std::size_t size = 0;
    EventLoop::Hold watch;
    EventLoop::Hold timer;
  };
  using Entry = std::list<Pending>::iterator;

  DataPort(EventLoop& loop, OwnedFd listener, Receiver receiver)
      : loop_(loop), listener_(std::move(listener)), receiver_(std::move(receiver)) {}
  void accept_one();
  void read_preamble(Entry entry);

  EventLoop& loop_;
  OwnedFd listener_;
  Receiver receiver_;
  std::uint16_t port_ = 0;
  EventLoop::Hold watch_;
  std::list<Pending> pending_;  // oldest first
};

/// Connects to the data ports of other nodes.
class Dialler {
 public:
  using Done = std::function<void(Result<OwnedFd> socket)>;

  explicit Dialler(EventLoop& loop) : loop_(loop) {}
  Dialler(const Dialler&) = delete;
  Dialler& operator=(const Dialler&) = delete;
  ~Dialler();

  /// Tries the addresses in turn, each for at most kPatience, and sends the preamble. Gives a
  /// connected socket in blocking mode. `done` is called in a later turn of the loop.
  void dial(std::vector<NodeAddress> addresses, const Preamble& preamble, Done done);

  static constexpr std::chrono::milliseconds kPatience{3000};

 private:
  struct Attempt;
  void next_address(const std::shared_ptr<Attempt>& attempt);
  void connect(const std::shared_ptr<Attempt>& attempt, const NodeAddress& address,
               const std::string& ip);
  void resolve(const std::shared_ptr<Attempt>& attempt, const NodeAddress& address);
  void connected(const std::shared_ptr<Attempt>& attempt);
  void failed(const std::shared_ptr<Attempt>& attempt, const Error& why);
  void finish(const std::shared_ptr<Attempt>& attempt, Result<OwnedFd> outcome);

  EventLoop& loop_;
  std::map<Attempt*, std::shared_ptr<Attempt>> attempts_;
};

/// "HOST:PORT", an IPv6 address in brackets.
std::string format_data_address(const NodeAddress& address);

}  // namespace drover
