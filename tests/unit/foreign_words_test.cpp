#include "common/foreign_words.h"

#include <gtest/gtest.h>

#include "migrate/messages.h"
#include "migrate/order.pb.h"
#include "remote-syscall/body_messages.h"

using namespace drover;

TEST(ForeignWords, ControlCharactersAndWhatIsNotAsciiAreReplaced) {
  EXPECT_EQ(plain_words("a b~\n\x1b[2J\x7f\xc3\xa9\xff"), "a b~??[2J????");
}

TEST(ForeignWords, AreCutOff) { EXPECT_EQ(plain_words("abcdef", 3), "abc"); }

TEST(ForeignWords, WhatAGuestSaysCanBePassedOn) {
  WireWriter words;
  words.text("no\xff room\x1b[31m\n" + std::string(3000, 'x'));
  Frame frame;
  frame.type = type(FrameType::kFailed);
  frame.payload = words.data();
  const std::string passed_on = failure_of(frame).message();
  EXPECT_EQ(passed_on.substr(0, 14), "no? room?[31m?");
  EXPECT_LE(passed_on.size(), 500U);
}

// A word that migrated cannot read would leave a move without an end.
TEST(ForeignWords, WhateverAFileIsCalledItsNameCanBeTold) {
  order::DeputyEvent event;
  event.mutable_move_ended()->set_error("/data/\xff: No such file or directory");
  const Bytes packet = encode_message(event);
  order::DeputyEvent read;
  ASSERT_TRUE(read.ParseFromArray(packet.data(), static_cast<int>(packet.size())));
  EXPECT_EQ(read.move_ended().error(), event.move_ended().error());
}
