#include "common/wire.h"

#include <gtest/gtest.h>

#include "common/frame.h"

namespace drover {
namespace {

enum class Colour : std::uint16_t { kRed = 3 };
struct Record {
  std::uint64_t a;
  std::uint32_t b, c;
  bool operator==(const Record&) const = default;
};

Bytes sample() {
  WireWriter w;
  w.number(std::uint8_t{0xfe});
  w.number(std::int32_t{-2});
  w.number(std::uint64_t{0x0123456789abcdef});
  w.number(Colour::kRed);
  w.text("drover");
  w.bytes(as_bytes(std::string_view("\0\1", 2)));
  w.record(Record{1, 2, 3});
  return w.take();
}

/// Reads what sample() wrote; whether it was all there.
bool read_sample(WireReader& r) {
  bool equal = r.number<std::uint8_t>() == 0xfe;
  // All of it is read, in this order, also after a difference.
  equal &= r.number<std::int32_t>() == -2;
  equal &= r.number<std::uint64_t>() == 0x0123456789abcdef;
  equal &= r.number<Colour>() == Colour::kRed;
  equal &= r.text() == "drover";
  equal &= r.bytes().size() == 2;
  equal &= r.record<Record>() == Record{1, 2, 3};
  return equal;
}

TEST(Wire, WhatIsWrittenIsRead) {
  const Bytes data = sample();
  WireReader r(data);
  EXPECT_TRUE(read_sample(r));
  EXPECT_TRUE(r.finish("sample"));
}

TEST(Wire, NumbersAreLittleEndian) {
  WireWriter w;
  w.number(std::uint32_t{0x04030201});
  EXPECT_EQ(w.data(), (Bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}}));
}

TEST(Wire, AMessageCutOffAtAnyByteFails) {
  const Bytes data = sample();
  for (std::size_t n = 0; n < data.size(); ++n) {
    const Bytes part(data.begin(), data.begin() + std::ptrdiff_t(n));  // so that asan sees overruns
    WireReader r(part);
    EXPECT_FALSE(read_sample(r)) << n;
    EXPECT_TRUE(r.failed()) << n;
    EXPECT_FALSE(r.finish("sample")) << n;
  }
}

TEST(Wire, AfterAFailureEverythingIsZeroAndEmpty) {
  const Bytes data(3, std::byte{0xff});
  WireReader r(data);
  EXPECT_EQ(r.number<std::uint32_t>(), 0u);
  EXPECT_EQ(r.number<std::uint8_t>(), 0u) << "though a byte would be there";
  EXPECT_TRUE(r.bytes().empty());
  EXPECT_EQ(r.text(), "");
  EXPECT_EQ(r.count(1), 0u);
}

TEST(Wire, BytesLeftOverAreAnError) {
  const Bytes data(5);
  WireReader r(data);
  r.number<std::uint32_t>();
  EXPECT_EQ(r.remaining(), 1u);
  EXPECT_FALSE(r.finish("sample"));
  EXPECT_FALSE(r.failed());
}

TEST(Wire, LengthsBeyondTheMessageOrTheLimitFail) {
  WireWriter w;
  w.number(std::uint32_t{0xffffffff});
  w.raw(as_bytes("abc"));
  WireReader beyond(w.data());
  EXPECT_TRUE(beyond.bytes().empty());
  EXPECT_TRUE(beyond.failed());

  WireWriter t;
  t.text("twelve bytes");
  WireReader allowed(t.data()), refused(t.data());
  EXPECT_EQ(allowed.text(12), "twelve bytes");
  EXPECT_EQ(refused.text(11), "");
  EXPECT_TRUE(refused.failed());
}

TEST(Wire, ACountNeverPromisesMoreThanCanFollow) {
  WireWriter w;
  w.number(std::uint32_t{3});
  w.raw(Bytes(12));
  WireReader fits(w.data()), too_many(w.data());
  EXPECT_EQ(fits.count(4), 3u);
  EXPECT_EQ(too_many.count(5), 0u);
  EXPECT_TRUE(too_many.failed());
}

Bytes frame_bytes(std::uint16_t type, std::string_view payload) {
  WireWriter w;
  w.raw(frame_header(type, payload.size()));
  w.raw(as_bytes(payload));
  return w.take();
}

TEST(FrameAssembler, FramesComeOutHoweverTheStreamIsCut) {
  Bytes stream;
  for (const char* payload : {"", "a", "", "twelve bytes"}) {
    const Bytes frame = frame_bytes(std::uint16_t(stream.size()), payload);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameAssembler frames;
    for (std::size_t at = 0; at < stream.size(); at += piece)
      ASSERT_TRUE(frames.feed(ByteView(stream).subspan(at, std::min(piece, stream.size() - at))));
    std::size_t offset = 0;
    int seen = 0;
    while (auto frame = frames.next()) {
      EXPECT_EQ(frame->type, offset);
      offset += kFrameHeaderSize + frame->payload.size();
      ++seen;
    }
    EXPECT_EQ(seen, 4);
    EXPECT_EQ(offset, stream.size());
    EXPECT_FALSE(frames.inside_frame());
    EXPECT_EQ(frames.queued_bytes(), 0u);
  }
}

TEST(FrameAssembler, KnowsWhetherTheStreamEndsInsideAFrame) {
  const Bytes frame = frame_bytes(1, "payload");
  for (std::size_t n = 0; n <= frame.size(); ++n) {
    FrameAssembler frames;
    ASSERT_TRUE(frames.feed(ByteView(frame).first(n)));
    EXPECT_EQ(frames.inside_frame(), n != 0 && n != frame.size()) << n;
  }
}

TEST(FrameAssembler, HeadersThatAreNoneFail) {
  FrameAssembler large, malformed, largest;
  EXPECT_FALSE(large.feed(frame_header(1, kMaxFrame + 1)));
  auto header = frame_header(1, 4);
  header[6] = std::byte{1};
  EXPECT_FALSE(malformed.feed(header));
  EXPECT_TRUE(largest.feed(frame_header(1, kMaxFrame)));
}

}  // namespace
}  // namespace drover
