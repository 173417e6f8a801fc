// The messages of a body's channel that have to do with calls and signals. The first byte chooses
// the message.
#include <algorithm>
#include <cstdlib>

#include "migrate/image.h"
#include "remote-syscall/body_messages.h"
#include "remote-syscall/cpu_messages.h"
#include "remote-syscall/marshal.h"

using namespace drover;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

template <class T>
void read_record(ByteView bytes) {
  if (decode_record<T>(bytes, "record")) require(bytes.size() == sizeof(T));
}

void read_outcome(ByteView bytes) {
  WireReader reader(bytes);
  const auto head = OutcomeHead::decode(reader);
  if (!head) return;
  require(head->end <= CallEnd::kGoHome);
  CallReply reply;
  if (reply.decode(reader)) require(reply.data.size() <= bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 15) {
    case 0:
      if (const auto m = Hello::decode(bytes)) require(std::ranges::equal(m->encode(), bytes));
      break;
    case 1:
      if (const auto m = ActionMessage::decode(bytes)) require(is_signal(m->signal));
      break;
    case 2:
      if (const auto m = SignalMessage::decode(bytes)) require(is_signal(m->info.si_signo));
      break;
    case 3:
      if (const auto m = FatalMessage::decode(bytes)) require(is_signal(m->info.si_signo));
      break;
    case 4:
      read_outcome(bytes);
      break;
    case 5:
      read_record<MaskMessage>(bytes);
      break;
    case 6:
      read_record<ExitMessage>(bytes);
      break;
    case 7:
      read_record<NeedHome>(bytes);
      break;
    case 8:
      read_record<GuestHeartbeat>(bytes);
      break;
    case 9:
      read_record<Commit>(bytes);
      break;
    case 10:
      if (const auto m = ThreadsMessage::decode(bytes)) {
        require(std::ranges::equal(m->encode(), bytes));
      }
      break;
    case 11:
      read_record<MemoryLimits>(bytes);
      break;
    case 12:
      if (const auto m = ScheduleMessage::decode(bytes)) require(is_possible(m->schedule));
      break;
    case 13:
      if (const auto m = CpuUsedMessage::decode(bytes)) {
        require(std::ranges::equal(m->encode(), bytes));
      }
      break;
    case 14:
      if (const auto m = CpuWatchMessage::decode(bytes)) {
        require(std::ranges::equal(m->encode(), bytes));
      }
      break;
  }
  return 0;
}
