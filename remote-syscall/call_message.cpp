// What becomes of a marshalled call: placed in P's scratch, its results chosen, sent back and
// written into the body.
#include <algorithm>
#include <cstring>
#include <string>

#include "remote-syscall/marshal.h"

namespace drover {
namespace {

bool interrupted(std::int64_t result) {
  return result == -EINTR || (result <= -512 && result >= -516);
}

bool comes_back(const OutRange& range, std::int64_t result) {
  if (result >= 0)
    return range.when != ReturnWhen::kInterrupted &&
           static_cast<std::uint64_t>(result) >= range.least_result;
  switch (range.when) {
    case ReturnWhen::kSucceeded:
      return false;
    case ReturnWhen::kInterrupted:
    case ReturnWhen::kSucceededOrInterrupted:
      return interrupted(result);
    case ReturnWhen::kAlways:
      return true;
  }
  return false;
}

/// An OutRange as it travels.
struct WireRange {
  std::uint32_t offset, capacity, value_offset, least_result;
  std::int32_t skip;
  std::uint16_t unit;
  OutRange::Length length;
  ReturnWhen when;
};
static_assert(sizeof(WireRange) == 24);

}  // namespace

CallArguments place(CallRequest& request, ForeignAddress scratch) {
  CallArguments arguments = request.arguments;
  for (const Relocation& relocation : request.relocations) {
    const std::uint64_t pointer = (scratch + relocation.target).value();
    if (relocation.where & Relocation::kArgument)
      arguments[relocation.where & ~Relocation::kArgument] = pointer;
    else
      std::memcpy(request.data.data() + relocation.where, &pointer, sizeof pointer);
  }
  return arguments;
}

Result<std::size_t> pieces_to_return(const CallRequest& request, std::int64_t result,
                                     MemoryReader& p, ForeignAddress scratch,
                                     std::vector<Piece>& pieces) {
  pieces.clear();
  std::size_t sum = 0;
  for (const OutRange& range : request.outs) {
    if (!comes_back(range, result)) continue;
    std::int64_t length = range.capacity;
    if (range.length == OutRange::kResult) {
      length = std::clamp<std::int64_t>(result, 0, kMaxLayout) * range.unit - range.skip;
    } else if (range.length == OutRange::kValue) {
      std::uint32_t value = 0;
      DROVER_TRY(const std::size_t got,
                 p.read(scratch + range.value_offset,
                        std::as_writable_bytes(std::span<std::uint32_t, 1>(&value, 1))));
      if (got != sizeof value) return Error{EFAULT, "a length in the scratch"};
      length = static_cast<std::int64_t>(value) - range.skip;
    }
    length = std::clamp<std::int64_t>(length, 0, range.capacity);
    if (length == 0) continue;
    pieces.push_back({range.offset, static_cast<std::uint32_t>(length)});
    sum += static_cast<std::size_t>(length);
  }
  return sum;
}

Status apply_reply(const CallRequest& request, const CallReply& reply, MemoryWriter& body) {
  // Pieces come in the order of the ranges they fill. First all are looked at, then written.
  const auto each = [&](auto&& use) -> Status {
    auto range = request.outs.begin();
    std::size_t at = 0;
    for (const Piece& piece : reply.pieces) {
      while (range != request.outs.end() &&
             (range->offset != piece.offset || piece.length > range->capacity))
        ++range;
      if (range == request.outs.end() || piece.length > reply.data.size() - at)
        return refusal("reply to " + std::string(syscall_name(request.number)) +
                       ": a piece that was not asked for");
      DROVER_CHECK(use(*range, reply.data.subspan(at, piece.length)));
      at += piece.length;
      ++range;
    }
    return {};
  };
  DROVER_CHECK(each([](const OutRange&, ByteView) -> Status { return {}; }));
  return each([&](const OutRange& range, ByteView data) -> Status {
    Status written = body.write(range.destination, data);
    if (!written && range.fault_ignored && written.error().code == EFAULT) return {};
    return written;
  });
}

// ---- The wire ----

void CallRequest::clear() {
  number = -1;
  arguments = {};
  layout_size = 0;
  relocations.clear();
  outs.clear();
  data.clear();
}

void CallRequest::encode_head(WireWriter& writer) const {
  writer.number(number);
  writer.record(arguments);
  writer.number(layout_size);
  writer.number(static_cast<std::uint32_t>(relocations.size()));
  writer.number(static_cast<std::uint32_t>(outs.size()));
  writer.number(static_cast<std::uint32_t>(data.size()));
  for (const Relocation& relocation : relocations) writer.record(relocation);
  for (const OutRange& range : outs)
    writer.record(WireRange{range.offset, range.capacity, range.value_offset, range.least_result,
                            range.skip, range.unit, range.length, range.when});
}

Status CallRequest::decode(WireReader& reader) {
  clear();
  number = reader.number<std::int32_t>();
  arguments = reader.record<CallArguments>();
  layout_size = reader.number<std::uint32_t>();
  const auto relocation_count = reader.number<std::uint32_t>();
  const auto out_count = reader.number<std::uint32_t>();
  const auto data_size = reader.number<std::uint32_t>();
  if (reader.failed() || layout_size > kMaxLayout || data_size > layout_size ||
      relocation_count > kMaxRelocations || out_count > kMaxOutRanges)
    return refusal("call request: malformed head");

  for (std::uint32_t i = 0; i < relocation_count && !reader.failed(); ++i) {
    const auto relocation = reader.record<Relocation>();
    const std::uint32_t index = relocation.where & ~Relocation::kArgument;
    const bool fits = relocation.where & Relocation::kArgument
                          ? index < arguments.size()
                          : std::uint64_t{index} + sizeof(std::uint64_t) <= data_size;
    if (!fits || relocation.target > layout_size)
      return refusal("call request: a pointer outside the scratch");
    relocations.push_back(relocation);
  }
  // Out ranges are apart, so their sum bounds what a reply can hold.
  std::uint64_t room = layout_size;
  for (std::uint32_t i = 0; i < out_count && !reader.failed(); ++i) {
    const auto wire = reader.record<WireRange>();
    const bool value_fits = wire.length != OutRange::kValue ||
                            std::uint64_t{wire.value_offset} + sizeof(std::uint32_t) <= layout_size;
    if (wire.length > OutRange::kValue || wire.when > ReturnWhen::kAlways || !value_fits ||
        wire.offset > layout_size || wire.capacity > layout_size - wire.offset ||
        wire.capacity > room)
      return refusal("call request: an out range outside the scratch");
    room -= wire.capacity;
    outs.push_back({.offset = wire.offset,
                    .capacity = wire.capacity,
                    .length = wire.length,
                    .when = wire.when,
                    .unit = wire.unit,
                    .skip = wire.skip,
                    .value_offset = wire.value_offset,
                    .least_result = wire.least_result,
                    .destination = {}});
  }
  const ByteView rest = reader.raw(data_size);
  data.assign(rest.begin(), rest.end());
  return reader.finish("call request");
}

void CallReply::encode_head(WireWriter& writer) const {
  writer.number(result);
  writer.number(static_cast<std::uint32_t>(pieces.size()));
  for (const Piece& piece : pieces) writer.record(piece);
}

Status CallReply::decode(WireReader& reader) {
  pieces.clear();
  data = {};
  result = reader.number<std::int64_t>();
  const std::uint32_t count = reader.count(sizeof(Piece));
  if (count > kMaxOutRanges) return refusal("call reply: too many pieces");
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) {
    pieces.push_back(reader.record<Piece>());
    sum += pieces.back().length;
  }
  if (sum > kMaxLayout) return refusal("call reply: too large");
  data = reader.raw(sum);
  return reader.finish("call reply");
}

}  // namespace drover
