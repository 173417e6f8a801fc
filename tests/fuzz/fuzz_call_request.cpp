// What a deputy does with a request from a guest that lies: decode, place, choose the pieces.
#include <cstdlib>
#include <cstring>

#include "remote-syscall/marshal.h"

namespace {

using namespace drover;

/// P's scratch: everything outside it is a crash.
class Scratch : public MemoryReader {
 public:
  explicit Scratch(const CallRequest& request) : bytes_(request.layout_size) {
    std::copy(request.data.begin(), request.data.end(), bytes_.begin());
  }
  Result<std::size_t> read(ForeignAddress address, std::span<std::byte> into) override {
    if (address < kBase || address - kBase > bytes_.size() ||
        into.size() > bytes_.size() - (address - kBase))
      std::abort();
    std::memcpy(into.data(), bytes_.data() + (address - kBase), into.size());
    return into.size();
  }
  static constexpr ForeignAddress kBase{0x100000};

 private:
  Bytes bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static CallRequest request;
  WireReader reader({reinterpret_cast<const std::byte*>(data), size});
  if (!request.decode(reader)) return 0;

  WireWriter again;
  request.encode(again);
  if (again.data().size() != size || std::memcmp(again.data().data(), data, size) != 0) {
    std::abort();
  }
  classify_call(request.number, request.arguments, 1);
  place(request, Scratch::kBase);
  Scratch scratch(request);
  std::vector<Piece> pieces;
  for (std::int64_t result : {std::int64_t{0}, std::int64_t{1}, INT64_MAX, std::int64_t{-4},
                              std::int64_t{-14}, std::int64_t{-516}, INT64_MIN}) {
    const auto sum = pieces_to_return(request, result, scratch, Scratch::kBase, pieces);
    if (!sum || *sum > request.layout_size) std::abort();
    for (const Piece& piece : pieces)
      if (piece.offset > request.layout_size || piece.length > request.layout_size - piece.offset)
        std::abort();
  }
  return 0;
}
