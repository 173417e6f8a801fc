// What any user of the machine may send to migrated's local socket, and what a deputy or guest
// that has been taken over may send to its.
#include "migrate/daemon_local.h"
#include "migrate/messages.h"
#include "migrate/order.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  const ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
  static_cast<void>(parse_local_request(bytes).ok());
  static_cast<void>(decode_message<order::GuestEvent>(bytes, "guest").ok());
  static_cast<void>(decode_message<order::DeputyEvent>(bytes, "deputy").ok());
  return 0;
}
