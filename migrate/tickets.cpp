#include "migrate/tickets.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>

namespace drover {
namespace {

constexpr char kMagic[4] = {'D', 'R', 'V', 'R'};
constexpr std::uint8_t kVersion = 1;

}  // namespace

Ticket random_ticket() {
  Ticket ticket;
  std::size_t done = 0;
  while (done < ticket.size()) {
    const ssize_t n = ::getrandom(ticket.data() + done, ticket.size() - done, 0);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      std::abort();  // a kernel without getrandom(2): nothing here would be safe
    }
  }
  return ticket;
}

Result<Ticket> parse_ticket(ByteView data) {
  if (data.size() != kTicketBytes) return refusal("a ticket of the wrong length");
  Ticket ticket;
  std::ranges::copy(data, ticket.begin());
  return ticket;
}

std::array<std::byte, kPreambleBytes> encode_preamble(const Preamble& preamble) {
  std::array<std::byte, kPreambleBytes> out{};
  std::memcpy(out.data(), kMagic, sizeof kMagic);
  out[4] = std::byte{kVersion};
  out[5] = static_cast<std::byte>(preamble.kind);
  std::ranges::copy(preamble.ticket, out.begin() + 8);
  return out;
}

Result<Preamble> parse_preamble(std::span<const std::byte, kPreambleBytes> data) {
  if (std::memcmp(data.data(), kMagic, sizeof kMagic) != 0) return refusal("not a Drover peer");
  if (data[4] != std::byte{kVersion})
    return refusal("data port version " + std::to_string(std::to_integer<int>(data[4])));
  const auto kind = static_cast<Preamble::Kind>(data[5]);
  if (kind != Preamble::Kind::kPeerLink && kind != Preamble::Kind::kBodyChannel)
    return refusal("unknown kind of connection");
  if (data[6] != std::byte{0} || data[7] != std::byte{0}) return refusal("malformed preamble");
  Preamble preamble{kind, {}};
  std::ranges::copy(data.subspan<8>(), preamble.ticket.begin());
  return preamble;
}

}  // namespace drover
