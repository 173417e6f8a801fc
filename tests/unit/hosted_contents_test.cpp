#include "migrate/hosted_contents.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace drover {
namespace {

Content content_of(const std::string& text) {
  Content content;
  Sha256 digest;
  digest.update(as_bytes(text));
  content.key = digest.finish();
  content.size = text.size();
  return content;
}

Bytes piece(std::uint32_t index, std::uint64_t offset, const std::string& text) {
  WireWriter w;
  w.record(ContentPiece{index, 0, offset});
  w.raw(as_bytes(text));
  return w.take();
}

std::string text_of(const OwnedFd& file) {
  std::string text(64, '\0');
  const ssize_t n = pread(file.get(), text.data(), text.size(), 0);
  text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return text;
}

ino_t inode(const OwnedFd& file) {
  struct stat st {};
  fstat(file.get(), &st);
  return st.st_ino;
}

class ContentsOfAGuest : public testing::Test {
 protected:
  MemoryStore store;
  ContentReceiver receiver{store};

  std::vector<std::uint32_t> offer(std::uint32_t first, std::vector<Content> contents) {
    const auto want = receiver.on_offer({first, std::move(contents)});
    EXPECT_TRUE(want) << want.error().message();
    return want ? want->indices : std::vector<std::uint32_t>{};
  }
};

}  // namespace

TEST_F(ContentsOfAGuest, WhatIsNotHereIsWantedAndTakenInPieces) {
  EXPECT_EQ(offer(0, {content_of("one text")}), std::vector<std::uint32_t>{0});
  EXPECT_FALSE(receiver.usable(0));
  EXPECT_TRUE(receiver.on_piece(piece(0, 0, "one ")));
  EXPECT_FALSE(receiver.usable(0));
  EXPECT_TRUE(receiver.on_piece(piece(0, 4, "text")));
  ASSERT_TRUE(receiver.usable(0));
  EXPECT_EQ(text_of(receiver.contents().files[0]), "one text");
}

TEST_F(ContentsOfAGuest, WhatIsHereIsNotWanted) {
  offer(0, {content_of("known")});
  ASSERT_TRUE(receiver.on_piece(piece(0, 0, "known")));
  ContentReceiver next(store);
  const auto want = next.on_offer({0, {content_of("known"), content_of("new")}});
  ASSERT_TRUE(want);
  EXPECT_EQ(want->indices, std::vector<std::uint32_t>{1});
  EXPECT_EQ(text_of(next.contents().files[0]), "known");
}

TEST_F(ContentsOfAGuest, EqualContentsHaveFilesOfTheirOwn) {
  offer(0, {content_of("twice"), content_of("twice")});
  ASSERT_TRUE(receiver.on_piece(piece(0, 0, "twice")));
  ASSERT_TRUE(receiver.on_piece(piece(1, 0, "twice")));
  const auto want = offer(2, {content_of("twice")});
  EXPECT_EQ(want, std::vector<std::uint32_t>{2});
  ASSERT_TRUE(receiver.on_piece(piece(2, 0, "twice")));
  const auto& files = receiver.contents().files;
  EXPECT_EQ(text_of(files[2]), "twice");
  EXPECT_NE(inode(files[0]), inode(files[1]));
  EXPECT_NE(inode(files[1]), inode(files[2]));
}

TEST_F(ContentsOfAGuest, OneThatChangedOnTheWayIsNotUsable) {
  offer(0, {content_of("promised")});
  EXPECT_TRUE(receiver.on_piece(piece(0, 0, "PROMISED")));
  EXPECT_FALSE(receiver.usable(0));
  // Offered again, it has another index.
  EXPECT_EQ(offer(1, {content_of("PROMISED")}), std::vector<std::uint32_t>{1});
  EXPECT_TRUE(receiver.on_piece(piece(1, 0, "PROMISED")));
  EXPECT_TRUE(receiver.usable(1));
}

TEST_F(ContentsOfAGuest, AnEmptyOneNeedsNothing) {
  EXPECT_TRUE(offer(0, {content_of("")}).empty());
  EXPECT_TRUE(receiver.usable(0));
}

TEST_F(ContentsOfAGuest, RefusesWhatIsOutOfOrder) {
  EXPECT_FALSE(receiver.on_offer({1, {content_of("x")}}));
  offer(0, {content_of("text")});
  EXPECT_FALSE(receiver.on_piece(piece(1, 0, "text")));
  EXPECT_FALSE(receiver.on_piece(piece(0, 1, "ext")));
  EXPECT_FALSE(receiver.on_piece(piece(0, 0, "text and more")));
  EXPECT_FALSE(receiver.on_piece(piece(0, 0, "")));
  EXPECT_FALSE(receiver.on_piece(Bytes(3)));
  EXPECT_TRUE(receiver.on_piece(piece(0, 0, "text")));
  EXPECT_FALSE(receiver.on_piece(piece(0, 0, "text"))) << "it is whole already";
  EXPECT_FALSE(receiver.usable(7));
}

}  // namespace drover
