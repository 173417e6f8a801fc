#include "remote-syscall/body_messages.h"

#include "common/foreign_words.h"

namespace drover {

Error failure_of(const Frame& frame) {
  WireReader r(frame.payload);
  return refusal(plain_words(r.text()));
}

Bytes Hello::encode() const {
  WireWriter w;
  w.number(version);
  w.text(job);
  w.number(epoch);
  return w.take();
}

Result<Hello> Hello::decode(ByteView data) {
  WireReader r(data);
  Hello h;
  h.version = r.number<std::uint32_t>();
  h.job = r.text(64);
  h.epoch = r.number<std::uint64_t>();
  DROVER_CHECK(r.finish("hello"));
  return h;
}

Status check_hello(const Hello& said, const Hello& agreed, const std::string& who) {
  if (said.job != agreed.job || said.epoch != agreed.epoch)
    return refusal(who + " speaks of another job or epoch");
  if (said.version != agreed.version)
    return refusal(who + " speaks version " + std::to_string(said.version) +
                   " of the protocol; agreed was version " + std::to_string(agreed.version));
  return {};
}

void OutcomeHead::encode(WireWriter& writer) const {
  writer.number(tid);
  writer.number(sequence);
  writer.number(end);
}

Result<OutcomeHead> OutcomeHead::decode(WireReader& reader) {
  OutcomeHead head;
  head.tid = reader.number<std::int32_t>();
  head.sequence = reader.number<std::uint64_t>();
  head.end = reader.number<CallEnd>();
  if (reader.failed()) return refusal("call reply: truncated or malformed message");
  if (head.end > CallEnd::kGoHome) return refusal("call reply: no such end of a call");
  return head;
}

Result<ActionMessage> ActionMessage::decode(ByteView data) {
  DROVER_TRY(const auto message, decode_record<ActionMessage>(data, "action"));
  if (!is_signal(message.signal)) return refusal("action: no such signal");
  return message;
}

Result<SignalMessage> SignalMessage::decode(ByteView data) {
  DROVER_TRY(auto message, decode_record<SignalMessage>(data, "signal"));
  message.reserved = {};
  if (!is_signal(message.info.si_signo)) return refusal("signal: no such signal");
  return message;
}

Result<ScheduleMessage> ScheduleMessage::decode(ByteView data) {
  DROVER_TRY(const auto message, decode_record<ScheduleMessage>(data, "schedule"));
  if (!is_possible(message.schedule)) return refusal("schedule: no such niceness");
  return message;
}

Bytes ThreadsMessage::encode() const {
  WireWriter w;
  w.number(static_cast<std::uint32_t>(tids.size()));
  for (const std::int32_t tid : tids) w.number(tid);
  return w.take();
}

Result<ThreadsMessage> ThreadsMessage::decode(ByteView data) {
  WireReader r(data);
  ThreadsMessage message;
  for (auto left = r.count(sizeof(std::int32_t)); left > 0 && !r.failed(); --left) {
    message.tids.push_back(r.number<std::int32_t>());
  }
  DROVER_CHECK(r.finish("threads"));
  return message;
}

Result<FatalMessage> FatalMessage::decode(ByteView data) {
  DROVER_TRY(const auto message, decode_record<FatalMessage>(data, "fatal signal"));
  if (!is_signal(message.info.si_signo)) return refusal("fatal signal: no such signal");
  return message;
}

}  // namespace drover
