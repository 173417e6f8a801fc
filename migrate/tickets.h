// Tickets: 16 random bytes that let one connection on the data port through to its owner, once.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "common/result.h"
#include "common/wire.h"

namespace drover {

inline constexpr std::size_t kTicketBytes = 16;
using Ticket = std::array<std::byte, kTicketBytes>;

/// A ticket that nobody can guess (getrandom(2)).
Ticket random_ticket();
/// The ticket in `data`; an error unless it is exactly 16 bytes.
Result<Ticket> parse_ticket(ByteView data);

/// What every connection on the data port begins with, in clear: what it is for, so that
/// migrated can pass the socket on without reading any further.
struct Preamble {
  enum class Kind : std::uint8_t { kPeerLink = 1, kBodyChannel = 2 };
  Kind kind = Kind::kPeerLink;
  /// Of a body channel: its ticket. Of a peer link: the link's name, chosen by the dialler.
  Ticket ticket{};
};
inline constexpr std::size_t kPreambleBytes = 24;

/// "DRVR", version, kind, two zero bytes, ticket.
std::array<std::byte, kPreambleBytes> encode_preamble(const Preamble& preamble);
/// An error for anything that encode_preamble does not make.
Result<Preamble> parse_preamble(std::span<const std::byte, kPreambleBytes> data);

/// The tickets that a node has given out and not yet seen. T is what a ticket leads to.
template <class T>
class TicketBook {
 public:
  using Clock = std::chrono::steady_clock;

  /// Gives out a new ticket for `owner` that is good until `expires`. Those that have expired by
  /// `now` are forgotten.
  Ticket issue(T owner, Clock::time_point now, Clock::time_point expires) {
    std::erase_if(entries_, [&](const auto& entry) { return now >= entry.second.expires; });
    const Ticket ticket = random_ticket();
    entries_.insert_or_assign(ticket, Entry{std::move(owner), expires});
    return ticket;
  }
  /// The owner, and the ticket is spent: nothing if it is unknown, spent or expired.
  std::optional<T> redeem(const Ticket& ticket, Clock::time_point now) {
    const auto found = entries_.find(ticket);
    if (found == entries_.end()) return std::nullopt;
    Entry entry = std::move(found->second);
    entries_.erase(found);
    if (now >= entry.expires) return std::nullopt;
    return std::move(entry.owner);
  }
  void withdraw(const Ticket& ticket) { entries_.erase(ticket); }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    T owner;
    Clock::time_point expires;
  };
  std::map<Ticket, Entry> entries_;
};

}  // namespace drover
