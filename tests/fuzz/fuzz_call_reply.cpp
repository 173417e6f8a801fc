// What a guest does with a reply from a home that lies: decode, and write nothing that the
// call had not asked for.
#include <cstdlib>

#include "remote-syscall/marshal.h"

namespace {

using namespace drover;

/// A caller whose vectors are at known places.
class Body : public MemoryReader, public MemoryWriter {
 public:
  static constexpr std::uint64_t kTable = 0x1000, kFirst = 0x10000, kSecond = 0x20000;
  static constexpr std::uint64_t kLength = 300;

  Result<std::size_t> read(ForeignAddress address, std::span<std::byte> into) override {
    const std::uint64_t table[] = {kFirst, kLength, kSecond, kLength};
    if (address.value() != kTable || into.size() != sizeof table) std::abort();
    const auto bytes = std::as_bytes(std::span(table));
    std::copy(bytes.begin(), bytes.end(), into.begin());
    return into.size();
  }
  Status write(ForeignAddress address, ByteView data) override {
    if ((address.value() != kFirst && address.value() != kSecond) || data.size() > kLength)
      std::abort();
    return {};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Body body;
  static const CallRequest request = [] {
    CallRequest readv;
    if (!marshal_call(19, {0, Body::kTable, 2}, body, readv)) std::abort();
    return readv;
  }();
  WireReader reader({reinterpret_cast<const std::byte*>(data), size});
  CallReply reply;
  if (!reply.decode(reader)) return 0;
  // An error is as good as success here; a write outside the buffers aborts.
  static_cast<void>(apply_reply(request, reply, body).ok());
  return 0;
}
