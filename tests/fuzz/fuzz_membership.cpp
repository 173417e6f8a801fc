// Membership lists and node key lines as a stranger might send them. The signature is checked
// against a fixed key, and the JSON behind it is parsed as if it had been good.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "common/membership.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const Ed25519PublicKey admin{};
  (void)Membership::verify(text, admin);

  if (const auto list = Membership::parse(text)) {
    for (const Member& member : list->members()) {
      if (list->find(member.name) != &member) std::abort();
      if (list->active_by_control(member.keys.control) != (member.revoked ? nullptr : &member))
        std::abort();
    }
  }
  if (const auto node = parse_node_key(text)) {
    // What is read once is written and read the same again.
    const auto again = parse_node_key(format_node_key(*node));
    if (!again || !(*again == *node)) std::abort();
  }
  return 0;
}
