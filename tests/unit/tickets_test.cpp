#include "migrate/tickets.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace drover {
namespace {

using std::chrono::seconds;
using Book = TicketBook<std::string>;

const Book::Clock::time_point kStart{seconds(1000)};

TEST(Tickets, ATicketOpensOnce) {
  Book book;
  const Ticket ticket = book.issue("guest", kStart, kStart + seconds(30));
  EXPECT_EQ(book.redeem(ticket, kStart), "guest");
  EXPECT_EQ(book.redeem(ticket, kStart), std::nullopt);
  EXPECT_EQ(book.size(), 0u);
}

TEST(Tickets, ATicketExpires) {
  Book book;
  const Ticket early = book.issue("early", kStart, kStart + seconds(30));
  const Ticket late = book.issue("late", kStart, kStart + seconds(30));
  EXPECT_EQ(book.redeem(early, kStart + seconds(30) - std::chrono::nanoseconds(1)), "early");
  EXPECT_EQ(book.redeem(late, kStart + seconds(30)), std::nullopt);
  EXPECT_EQ(book.redeem(late, kStart), std::nullopt) << "an expired ticket is spent as well";
}

TEST(Tickets, TicketsThatNobodyUsesAreForgotten) {
  Book book;
  for (int second = 0; second < 1000; ++second) {
    const auto now = kStart + seconds(second);
    book.issue("guest", now, now + seconds(30));
    EXPECT_LE(book.size(), 30u);
  }
}

TEST(Tickets, AWithdrawnOrUnknownTicketOpensNothing) {
  Book book;
  const Ticket ticket = book.issue("guest", kStart, kStart + seconds(30));
  book.withdraw(ticket);
  EXPECT_EQ(book.redeem(ticket, kStart), std::nullopt);
  EXPECT_EQ(book.redeem(Ticket{}, kStart), std::nullopt);
  EXPECT_EQ(book.redeem(random_ticket(), kStart), std::nullopt);
}

TEST(Tickets, NoTwoAreAlike) {
  std::set<Ticket> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(random_ticket()).second);
}

TEST(Tickets, OnlySixteenBytesAreATicket) {
  const Bytes data(17);
  EXPECT_TRUE(parse_ticket(ByteView(data).first(16)));
  EXPECT_FALSE(parse_ticket(ByteView(data).first(15)));
  EXPECT_FALSE(parse_ticket(data));
  EXPECT_FALSE(parse_ticket({}));
}

TEST(Preamble, IsReadAsItWasWritten) {
  for (const auto kind : {Preamble::Kind::kPeerLink, Preamble::Kind::kBodyChannel}) {
    const Ticket ticket = random_ticket();
    const auto read = parse_preamble(encode_preamble({kind, ticket}));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read->kind, kind);
    EXPECT_EQ(read->ticket, ticket);
  }
}

TEST(Preamble, AnyOtherHeaderIsRefused) {
  const auto good = encode_preamble({Preamble::Kind::kBodyChannel, random_ticket()});
  for (std::size_t i = 0; i < 8; ++i)
    for (int bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[i] ^= std::byte(1 << bit);
      if (i == 5 && parse_preamble(bad))  // the only byte with a choice
        EXPECT_EQ(parse_preamble(bad)->kind, Preamble::Kind::kPeerLink);
      else
        EXPECT_FALSE(parse_preamble(bad)) << "byte " << i << " bit " << bit;
    }
}

}  // namespace
}  // namespace drover
