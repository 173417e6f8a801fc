// What migrated does with a message of another node: parse, check, and if it asks for a place
// for a body, decide whether this machine takes it.
#include "migrate/admission.h"
#include "migrate/daemon_questions.h"
#include "migrate/tickets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  static const peer::Machine own = own_machine();
  static const Member home = [] {
    Member member;
    member.name = "n1";
    member.zone = "lab";
    return member;
  }();
  const ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
  if (size >= kPreambleBytes) static_cast<void>(parse_preamble(bytes.first<kPreambleBytes>()).ok());
  const auto message = parse_peer_message(bytes);
  if (!message || !message->has_prepare_body()) return 0;
  const HostState state{0, 1UL << 30, 4'194'304, 0};
  static_cast<void>(
      admit_body(message->prepare_body(), home, {{"lab"}, false, 4}, state, own).ok());
  return 0;
}
