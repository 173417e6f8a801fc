// Version 1 of the protocol is spoken as it was released: its messages, kept in tests/wire_v1, are
// read and written the same by today's code, and what daemons and programs tell each other has only
// got more fields.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "migrate/image.h"
#include "remote-syscall/marshal.h"
#include "tests/wire_v1/wire_v1.h"

namespace drover {
namespace {

const std::string kKept = DROVER_SOURCE_DIR "/tests/wire_v1/";

struct Message {
  std::uint16_t type = 0;
  std::string name;
  Bytes payload;
};

/// messages.hex: "[TYPE NAME]", then the payload in hexadecimal.
std::vector<Message> kept_messages() {
  std::vector<Message> all;
  std::ifstream file(kKept + "messages.hex");
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '[') {
      std::istringstream head(line.substr(1, line.size() - 2));
      head >> all.emplace_back().type >> all.back().name;
      continue;
    }
    for (std::size_t i = 0; i + 1 < line.size(); i += 2)
      all.back().payload.push_back(
          static_cast<std::byte>(std::stoul(line.substr(i, 2), nullptr, 16)));
  }
  return all;
}

using Again = std::function<Result<Bytes>(ByteView)>;

/// What has an encode() and a decode() of its own, with a version or without.
template <class T>
Result<Bytes> as_message(ByteView payload) {
  if constexpr (requires { T::decode(payload, 1); }) {
    DROVER_TRY(const T message, T::decode(payload, 1));
    return message.encode(1);
  } else if constexpr (requires(T t) { t.encode(); }) {
    DROVER_TRY(const T message, T::decode(payload));
    return message.encode();
  } else {
    DROVER_TRY(const T message, T::decode(payload));
    return encode_record(message);
  }
}

template <class T>
Result<Bytes> as_record(ByteView payload) {
  DROVER_TRY(const T message, decode_record<T>(payload, "record"));
  return encode_record(message);
}

template <class Head>
Result<Bytes> as_head_and_bytes(ByteView payload) {
  WireReader r(payload);
  const auto head = r.record<Head>();
  const ByteView rest = r.raw(r.remaining());
  if (r.failed()) return refusal("too short");
  WireWriter w;
  w.record(head);
  w.raw(rest);
  return w.take();
}

Result<Bytes> as_words(ByteView payload) {
  WireReader r(payload);
  WireWriter w;
  w.text(r.text());
  DROVER_CHECK(r.finish("words"));
  return w.take();
}

Result<Bytes> as_call(ByteView payload) {
  WireReader r(payload);
  WireWriter w;
  w.number(r.number<std::int32_t>());   // tid
  w.number(r.number<std::uint64_t>());  // sequence
  w.number(r.number<std::uint32_t>());  // signals seen
  w.number(r.number<std::uint8_t>());   // goes on
  CallRequest request;
  DROVER_CHECK(request.decode(r));
  request.encode(w);
  return w.take();
}

Result<Bytes> as_reply(ByteView payload) {
  WireReader r(payload);
  WireWriter w;
  DROVER_TRY(const OutcomeHead head, OutcomeHead::decode(r));
  CallReply reply;
  DROVER_CHECK(reply.decode(r));
  head.encode(w);
  reply.encode(w);
  return w.take();
}

const std::map<FrameType, Again> kReaders = {
    {FrameType::kHello, as_message<Hello>},
    {FrameType::kClockTell, as_message<ClockReading>},
    {FrameType::kIdentity, as_message<Identity>},
    {FrameType::kOfferContent, as_message<ContentOffer>},
    {FrameType::kWantContent, as_message<ContentWant>},
    {FrameType::kContent, as_head_and_bytes<ContentPiece>},
    {FrameType::kLayout, as_message<Layout>},
    {FrameType::kPages, as_head_and_bytes<PagesHead>},
    {FrameType::kState, as_message<ProcessState>},
    {FrameType::kFailed, as_words},
    {FrameType::kCommit, as_record<Commit>},
    {FrameType::kHop, as_message<HopOrder>},
    {FrameType::kImageSent, as_record<ImageSent>},
    {FrameType::kHeartbeat, as_record<GuestHeartbeat>},
    {FrameType::kEnded, as_words},
    {FrameType::kCall, as_call},
    {FrameType::kReply, as_reply},
    {FrameType::kMask, as_record<MaskMessage>},
    {FrameType::kAction, as_message<ActionMessage>},
    {FrameType::kSignal, as_message<SignalMessage>},
    {FrameType::kExit, as_record<ExitMessage>},
    {FrameType::kFatal, as_message<FatalMessage>},
    {FrameType::kMaskSet, as_record<MaskSet>},
    {FrameType::kNeedHome, as_record<NeedHome>},
    {FrameType::kThreads, as_message<ThreadsMessage>},
};

TEST(MessagesOfVersion1, AreReadAndWrittenAsTheyWere) {
  std::set<std::uint16_t> seen;
  for (const Message& message : kept_messages()) {
    SCOPED_TRACE(message.name);
    const auto reader = kReaders.find(static_cast<FrameType>(message.type));
    ASSERT_NE(reader, kReaders.end());
    const auto again = reader->second(message.payload);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(*again, message.payload);
    seen.insert(message.type);
  }
  EXPECT_EQ(seen.size(), kReaders.size());
}

TEST(MessagesOfVersion1, AreReadAndWrittenAsTheyWereByTheKeptDescription) {
  for (const Message& message : kept_messages()) {
    SCOPED_TRACE(message.name);
    Bytes again;
    ASSERT_NO_THROW(again = wire_v1::read_and_write(message.type, message.payload, false));
    EXPECT_EQ(again, message.payload);
  }
}

TEST(MessagesOfVersion1, HaveTheirNumbers) {
  using wire_v1::Type;
  const std::map<Type, FrameType> same = {{wire_v1::kClockAsk, FrameType::kClockAsk},
                                          {wire_v1::kClockDone, FrameType::kClockDone},
                                          {wire_v1::kImageEnd, FrameType::kImageEnd},
                                          {wire_v1::kReady, FrameType::kReady},
                                          {wire_v1::kRunning, FrameType::kRunning},
                                          {wire_v1::kRecall, FrameType::kRecall},
                                          {wire_v1::kDiscard, FrameType::kDiscard},
                                          {wire_v1::kImageRefused, FrameType::kImageRefused}};
  for (const auto& [then, now] : same) EXPECT_EQ(then, type(now));
}

// ---- the control bus, orders and records

using Fields = std::map<std::string, std::string>;  // "Message.oneof.3" to "repeated type name"

/// The fields of a .proto file: enough of its grammar for ours, which have no nested messages.
Fields fields_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  for (std::string line; std::getline(file, line);) text << line.substr(0, line.find("//")) << ' ';
  std::string separated;
  for (const char c : text.str())
    separated += std::string(";={}").find(c) == std::string::npos ? std::string(1, c)
                                                                  : std::string(" ") + c + ' ';
  std::istringstream words(separated);
  Fields fields;
  std::string message, oneof;
  std::vector<std::string> statement;
  for (std::string word; words >> word;) {
    if (word == "{") {
      (statement.at(0) == "message" ? message : oneof) = statement.at(1);
      statement.clear();
    } else if (word == "}") {
      (oneof.empty() ? message : oneof).clear();
    } else if (word != ";") {
      statement.push_back(word);
    } else {
      if (!message.empty()) {  // [repeated] TYPE NAME = NUMBER
        std::string kind;
        for (std::size_t i = 0; i + 2 < statement.size(); ++i) kind += statement[i] + " ";
        fields[message + "." + (oneof.empty() ? "" : oneof + ".") + statement.back()] = kind;
      }
      statement.clear();
    }
  }
  return fields;
}

TEST(MessagesOfVersion1, BetweenDaemonsAndTheirProgramsHaveOnlyGotMoreFields) {
  std::size_t fields = 0;
  for (const std::string name : {"peer.proto", "order.proto", "record.proto"}) {
    const Fields now = fields_of(DROVER_SOURCE_DIR "/migrate/" + name);
    for (const auto& [field, kind] : fields_of(kKept + name)) {
      ++fields;
      const auto found = now.find(field);
      if (found == now.end())
        ADD_FAILURE() << name << ": no more " << field << ", " << kind;
      else
        EXPECT_EQ(found->second, kind) << name << ": " << field;
    }
  }
  EXPECT_GT(fields, 100u);
}

}  // namespace
}  // namespace drover
