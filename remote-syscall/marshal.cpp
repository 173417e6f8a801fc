#include "remote-syscall/marshal.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

namespace drover {
namespace {

using enum ArgumentKind;

// While a request grows, out areas are numbered from a tail whose place is not yet known.
constexpr std::uint32_t kInTail = 0x80000000;
constexpr std::uint32_t kMaxString = 4096;    // PATH_MAX, with its NUL
constexpr std::uint32_t kMaxSegments = 1024;  // UIO_MAXIOV
constexpr std::uint32_t kSector = 512;
// No user address is above, with four or with five levels of page tables.
constexpr std::uint64_t kUserEnd = (std::uint64_t{1} << 56) - kPageSize;

// struct user_msghdr and struct mmsghdr of the kernel.
constexpr std::uint32_t kNameLength = offsetof(msghdr, msg_namelen);
constexpr std::uint32_t kControlLength = offsetof(msghdr, msg_controllen);
constexpr std::uint32_t kMessageFlags = offsetof(msghdr, msg_flags);
constexpr std::uint32_t kMessageBytes = offsetof(mmsghdr, msg_len);
static_assert(sizeof(iovec) == 16 && sizeof(msghdr) == 56 && sizeof(mmsghdr) == 64);

bool user_range(std::uint64_t address, std::uint64_t size) {
  return address < kUserEnd && size <= kUserEnd - address;
}

/// One marshalling. Buffers that go in are appended to the data as they are met; those that
/// only come out are numbered from the tail, which `finish` puts behind the data.
class Marshaller {
 public:
  Marshaller(const Syscall& row, const CallArguments& arguments, MemoryReader& memory,
             CallRequest& request)
      : row_(row), original_(arguments), memory_(memory), request_(request) {}

  Status run();

 private:
  using Offset = std::optional<std::uint32_t>;  // nothing: it cannot be read

  Status pass_in(std::size_t index, const Argument&);
  Status pass_out(std::size_t index, const Argument&);
  Status buffer_in(std::size_t index, const Argument&);
  Status string_in(std::size_t index);
  Status sized_in(std::size_t index);
  Status mask_pack(std::size_t index);
  Status value_result(std::size_t index, const Argument&);
  Status vectors(std::size_t index, const Argument&);
  Status messages(std::size_t index, const Argument&);
  Status message(std::uint32_t header, ForeignAddress body, bool out, const OutRange& shape);
  Status segments(std::uint32_t table, std::uint64_t count, bool out, OutRange shape,
                  std::uint64_t* front);
  Status finish();

  /// Appends `size` bytes of the body's memory to the data. With `front`, a readable front part
  /// is enough, and its size is left there.
  Result<Offset> append(std::uint64_t address, std::uint64_t size, std::uint64_t* front = nullptr);
  /// Makes room in the tail and notes that it comes back as `shape` says.
  Result<std::uint32_t> reserve(std::uint64_t address, std::uint64_t size, OutRange shape);
  /// Notes that bytes inside the data come back.
  Status returns(std::uint32_t offset, std::uint32_t size, std::uint64_t destination,
                 OutRange shape);
  Status point(std::uint32_t where, std::uint32_t target);
  Status point_argument(std::size_t index, Offset target);
  Status room(std::uint64_t more) const;
  Error too_large() const;

  std::uint64_t length_of(const ArgumentLength&) const;
  template <class T>
  T peek(std::uint32_t offset) const {
    T value;
    std::memcpy(&value, request_.data.data() + offset, sizeof value);
    return value;
  }
  template <class T>
  void poke(std::uint32_t offset, T value) {
    std::memcpy(request_.data.data() + offset, &value, sizeof value);
  }
  std::uint32_t filled() const { return static_cast<std::uint32_t>(request_.data.size()); }

  const Syscall& row_;
  const CallArguments& original_;
  MemoryReader& memory_;
  CallRequest& request_;
  std::array<Offset, 6> placed_ = {};
  std::uint32_t tail_ = 0;
  std::uint32_t tail_alignment_ = 16;
};

constexpr std::uint32_t align_up(std::uint32_t value, std::uint32_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/// The first offset from `at` on that suits a buffer. Direct I/O wants whole sectors at sector
/// addresses: what is aligned stays so, and what is not stays refused.
std::uint32_t suitable(std::uint32_t at, std::uint64_t address, std::uint64_t size) {
  if (size < kSector || size % kSector != 0) return align_up(at, 8);
  if (address % kPageSize == 0) return align_up(at, kPageSize);
  if (address % kSector == 0) return align_up(at, kSector);
  const std::uint32_t offset = align_up(at, 16) + static_cast<std::uint32_t>(address % 16);
  return offset % kSector == 0 ? offset + 16 : offset;
}

OutRange shape_of(const Argument& argument) {
  OutRange shape;
  shape.when = argument.when;
  shape.fault_ignored = argument.fault_ignored;
  shape.least_result = argument.least_result;
  if (argument.result_unit != 0) {
    shape.length = OutRange::kResult;
    shape.unit = argument.result_unit;
    shape.skip = -static_cast<std::int32_t>(argument.length.fixed);
  }
  return shape;
}

Status Marshaller::run() {
  Argument storage;  // no call has two arguments that are read out of a request number
  std::array<const Argument*, 6> rules{};
  for (std::size_t i = 0; i < row_.arity; ++i) {
    request_.arguments[i] = original_[i];
    rules[i] = resolve_argument(row_, i, original_, storage);
    if (rules[i] == nullptr) {
      const std::uint8_t selector = row_.arguments[i].length.argument;
      return refusal(std::string(row_.name) + ": operation " +
                     std::to_string(static_cast<std::uint32_t>(original_[selector])) +
                     " cannot be forwarded");
    }
  }
  const auto travels = [&](std::size_t i) { return rules[i]->is_pointer() && original_[i] != 0; };
  for (std::size_t i = 0; i < row_.arity; ++i)
    if (travels(i)) DROVER_CHECK(pass_in(i, *rules[i]));
  for (std::size_t i = 0; i < row_.arity; ++i)
    if (travels(i)) DROVER_CHECK(pass_out(i, *rules[i]));
  return finish();
}

Status Marshaller::pass_in(std::size_t index, const Argument& argument) {
  switch (argument.kind) {
    case kIn:
    case kInOut:
      return buffer_in(index, argument);
    case kString:
      return string_in(index);
    case kSizedIn:
      return sized_in(index);
    case kMaskPack:
      return mask_pack(index);
    case kIovecIn:
    case kIovecOut:
      return vectors(index, argument);
    case kMessageIn:
    case kMessageOut: {
      DROVER_TRY(const Offset header, append(original_[index], sizeof(msghdr)));
      DROVER_CHECK(point_argument(index, header));
      if (!header) return {};
      OutRange shape;
      shape.length = OutRange::kResult;
      shape.unit = 1;
      return message(*header, ForeignAddress(original_[index]), argument.kind == kMessageOut,
                     shape);
    }
    case kMessagesIn:
    case kMessagesOut:
      return messages(index, argument);
    case kValue:
    case kOut:
    case kValueResult:
    case kChosen:
      return {};
  }
  return {};
}

Status Marshaller::pass_out(std::size_t index, const Argument& argument) {
  if (argument.kind == kValueResult) return value_result(index, argument);
  if (argument.kind != kOut) return {};
  const std::uint64_t size = length_of(argument.length);
  if (!user_range(original_[index], 0)) return point_argument(index, std::nullopt);
  DROVER_TRY(const std::uint32_t offset, reserve(original_[index], size, shape_of(argument)));
  return point_argument(index, offset);
}

Status Marshaller::buffer_in(std::size_t index, const Argument& argument) {
  const std::uint64_t size = length_of(argument.length);
  std::uint64_t front = size;
  DROVER_TRY(const Offset offset,
             append(original_[index], size, argument.partial ? &front : nullptr));
  DROVER_CHECK(point_argument(index, offset));
  if (!offset) return {};
  placed_[index] = offset;
  if (front < size) request_.arguments[argument.length.argument] = front;
  if (argument.kind != kInOut) return {};
  return returns(*offset, static_cast<std::uint32_t>(size), original_[index], shape_of(argument));
}

Status Marshaller::string_in(std::size_t index) {
  std::uint64_t address = original_[index];
  const std::uint32_t begin = filled();
  constexpr std::uint64_t kChunk = 512;
  while (filled() - begin < kMaxString) {
    // Never across a page's end: what follows may not be there, and need not.
    const std::uint64_t chunk =
        std::min({kChunk, kPageSize - address % kPageSize,
                  static_cast<std::uint64_t>(kMaxString - (filled() - begin))});
    const std::uint32_t at = filled();
    request_.data.resize(at + chunk);
    DROVER_TRY(const std::size_t got,
               memory_.read(ForeignAddress(address), std::span(request_.data).subspan(at, chunk)));
    const std::byte* text = request_.data.data() + at;
    if (const void* end = std::memchr(text, 0, std::min<std::size_t>(got, chunk))) {
      request_.data.resize(at + (static_cast<const std::byte*>(end) - text) + 1);
      return point_argument(index, begin);
    }
    if (got < chunk) {
      request_.data.resize(begin);
      return point_argument(index, std::nullopt);
    }
    address += chunk;
  }
  // Longer than any path: whoever reads it at home finds no end within its limit either.
  request_.data.push_back(std::byte{0});
  return point_argument(index, begin);
}

Status Marshaller::sized_in(std::size_t index) {
  // A size of 0 means the first version of a structure, and none is larger than a page: so the
  // kernel answers what it would have answered if it gets the true size and enough bytes.
  constexpr std::uint64_t kFirstVersion = 64;
  std::uint64_t front = 0;
  DROVER_TRY(Offset offset, append(original_[index], kFirstVersion, &front));
  if (!offset || front < sizeof(std::uint32_t)) return point_argument(index, std::nullopt);
  const auto size = peek<std::uint32_t>(*offset);
  if (size > front && size <= kPageSize) {
    request_.data.resize(*offset);
    DROVER_TRY(offset, append(original_[index], size));
  }
  DROVER_CHECK(point_argument(index, offset));
  if (!offset) return {};
  // With E2BIG the kernel says its own size.
  OutRange shape;
  shape.when = ReturnWhen::kAlways;
  shape.fault_ignored = true;
  return returns(*offset, sizeof(std::uint32_t), original_[index], shape);
}

Status Marshaller::mask_pack(std::size_t index) {
  DROVER_TRY(const Offset pack, append(original_[index], 16));
  DROVER_CHECK(point_argument(index, pack));
  if (!pack) return {};
  const auto mask = peek<std::uint64_t>(*pack);
  if (mask == 0) return {};
  DROVER_TRY(const Offset bits, append(mask, 8));
  if (bits) return point(*pack, *bits);
  poke(*pack, kBadPointer);
  return {};
}

Status Marshaller::value_result(std::size_t index, const Argument& argument) {
  const Offset length = placed_[argument.length.argument];
  const std::int32_t wanted = length ? peek<std::int32_t>(*length) : 0;
  std::uint64_t capacity = static_cast<std::uint64_t>(std::max(wanted, 0));
  if (argument.length.fixed != 0)
    capacity = std::min<std::uint64_t>(capacity, argument.length.fixed);
  OutRange shape;
  shape.length = OutRange::kValue;
  shape.value_offset = length.value_or(0);
  shape.when = argument.when;
  if (!user_range(original_[index], 0)) return point_argument(index, std::nullopt);
  if (!length) return point_argument(index, filled());
  if (!argument.also_in) {
    DROVER_TRY(const std::uint32_t offset, reserve(original_[index], capacity, shape));
    return point_argument(index, offset);
  }
  DROVER_TRY(const Offset offset, append(original_[index], capacity));
  DROVER_CHECK(point_argument(index, offset));
  if (!offset) return {};
  return returns(*offset, static_cast<std::uint32_t>(capacity), original_[index], shape);
}

Status Marshaller::vectors(std::size_t index, const Argument& argument) {
  std::uint64_t& count = request_.arguments[argument.length.argument];
  // More than the kernel takes: EINVAL, before it looks at the array.
  if (count > kMaxSegments) return point_argument(index, std::nullopt);
  DROVER_TRY(const Offset table, append(original_[index], count * sizeof(iovec)));
  DROVER_CHECK(point_argument(index, table));
  if (!table) return {};
  OutRange shape;
  shape.length = OutRange::kResult;
  shape.unit = 1;
  std::uint64_t front = count;
  DROVER_CHECK(segments(*table, count, argument.kind == kIovecOut, shape,
                        argument.partial ? &front : nullptr));
  count = front;
  return {};
}

/// Marshals the buffers of the iovec array at `table` in the data. With `front`, an in-buffer
/// that cannot be read whole ends the array there, if anything before it is left to write.
Status Marshaller::segments(std::uint32_t table, std::uint64_t count, bool out, OutRange shape,
                            std::uint64_t* front) {
  std::uint64_t before = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t entry = table + i * static_cast<std::uint32_t>(sizeof(iovec));
    const auto segment = peek<iovec>(entry);
    const auto base = reinterpret_cast<std::uint64_t>(segment.iov_base);
    if (static_cast<std::int64_t>(segment.iov_len) < 0) {
      poke(entry, kBadPointer);  // EINVAL by its length
      return {};
    }
    if (base == 0 || segment.iov_len == 0) continue;
    if (out && user_range(base, segment.iov_len)) {
      shape.skip = static_cast<std::int32_t>(before);
      DROVER_TRY(const std::uint32_t offset, reserve(base, segment.iov_len, shape));
      DROVER_CHECK(point(entry, offset));
    } else {
      std::uint64_t readable = segment.iov_len;
      Offset offset;
      if (!out) {
        DROVER_TRY(offset, append(base, segment.iov_len, front ? &readable : nullptr));
      }
      if (offset && readable < segment.iov_len) {
        poke(entry + offsetof(iovec, iov_len), readable);
        *front = i + 1;
        return point(entry, *offset);
      }
      if (!offset) {
        if (front && before > 0)
          *front = i;
        else
          poke(entry, kBadPointer);
        return {};
      }
      DROVER_CHECK(point(entry, *offset));
    }
    before += segment.iov_len;
  }
  return {};
}

Status Marshaller::message(std::uint32_t header, ForeignAddress body, bool out,
                           const OutRange& shape) {
  auto fields = peek<msghdr>(header);
  OutRange part;
  part.when = shape.when;
  part.least_result = shape.least_result;
  part.length = OutRange::kValue;

  if (const auto name = reinterpret_cast<std::uint64_t>(fields.msg_name); name != 0) {
    const auto length = std::min<std::uint64_t>(
        static_cast<std::uint64_t>(std::max(static_cast<std::int32_t>(fields.msg_namelen), 0)),
        sizeof(sockaddr_storage));
    Offset offset;
    part.value_offset = header + kNameLength;
    if (!out) {
      DROVER_TRY(offset, append(name, length));
    } else if (user_range(name, length)) {
      DROVER_TRY(offset, reserve(name, length, part));
    }
    if (offset)
      DROVER_CHECK(point(header + offsetof(msghdr, msg_name), *offset));
    else
      poke(header + offsetof(msghdr, msg_name), kBadPointer);
  }
  if (const auto control = reinterpret_cast<std::uint64_t>(fields.msg_control); control != 0) {
    Offset offset;
    part.value_offset = header + kControlLength;
    if (!out) {
      DROVER_TRY(offset, append(control, fields.msg_controllen));
    } else if (user_range(control, fields.msg_controllen)) {
      DROVER_TRY(offset, reserve(control, fields.msg_controllen, part));
    }
    if (offset)
      DROVER_CHECK(point(header + offsetof(msghdr, msg_control), *offset));
    else
      poke(header + offsetof(msghdr, msg_control), kBadPointer);
  }
  if (fields.msg_iovlen > kMaxSegments) {  // EMSGSIZE
    poke(header + offsetof(msghdr, msg_iov), kBadPointer);
  } else if (fields.msg_iov != nullptr) {
    DROVER_TRY(const Offset table, append(reinterpret_cast<std::uint64_t>(fields.msg_iov),
                                          fields.msg_iovlen * sizeof(iovec)));
    if (table) {
      DROVER_CHECK(point(header + offsetof(msghdr, msg_iov), *table));
      DROVER_CHECK(segments(*table, fields.msg_iovlen, out, shape, nullptr));
    } else {
      poke(header + offsetof(msghdr, msg_iov), kBadPointer);
    }
  }
  if (!out) return {};
  // Only what the kernel writes: the pointers beside it stay the body's.
  part.length = OutRange::kWhole;
  part.value_offset = 0;
  const auto field = [&](std::uint32_t offset, std::uint32_t size) {
    return returns(header + offset, size, (body + offset).value(), part);
  };
  if (fields.msg_name != nullptr) DROVER_CHECK(field(kNameLength, sizeof fields.msg_namelen));
  DROVER_CHECK(field(kControlLength, sizeof fields.msg_controllen));
  return field(kMessageFlags, sizeof fields.msg_flags);
}

Status Marshaller::messages(std::size_t index, const Argument& argument) {
  std::uint64_t& count = request_.arguments[argument.length.argument];
  count = std::min<std::uint64_t>(static_cast<std::uint32_t>(count), kMaxSegments);
  std::uint64_t front = 0;
  DROVER_TRY(const Offset table, append(original_[index], count * sizeof(mmsghdr), &front));
  // The kernel works through the headers one by one, until one cannot be read.
  const bool any = table && (count == 0 || front >= sizeof(mmsghdr));
  DROVER_CHECK(point_argument(index, any ? table : std::nullopt));
  if (!any || count == 0) return {};
  count = front / sizeof(mmsghdr);
  const bool out = argument.kind == kMessagesOut;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t header = *table + i * static_cast<std::uint32_t>(sizeof(mmsghdr));
    const ForeignAddress body = ForeignAddress(original_[index]) + i * sizeof(mmsghdr);
    OutRange shape;
    shape.length = OutRange::kValue;
    shape.value_offset = header + kMessageBytes;
    shape.least_result = i + 1;
    DROVER_CHECK(message(header, body, out, shape));
    OutRange sent;
    sent.least_result = i + 1;
    DROVER_CHECK(returns(header + kMessageBytes, sizeof(std::uint32_t),
                         (body + kMessageBytes).value(), sent));
  }
  return {};
}

Status Marshaller::finish() {
  const std::uint32_t base = tail_ == 0 ? filled() : align_up(filled(), tail_alignment_);
  request_.layout_size = base + tail_;
  for (Relocation& relocation : request_.relocations)
    if (relocation.target & kInTail) relocation.target = (relocation.target & ~kInTail) + base;
  for (OutRange& range : request_.outs)
    if (range.offset & kInTail) range.offset = (range.offset & ~kInTail) + base;
  if (request_.layout_size > kMaxLayout) return too_large();
  return {};
}

Result<Marshaller::Offset> Marshaller::append(std::uint64_t address, std::uint64_t size,
                                              std::uint64_t* front) {
  if (!user_range(address, 0)) return Offset{};
  DROVER_CHECK(room(size));
  const std::uint32_t before = filled();
  const std::uint32_t offset = suitable(before, address, size);
  request_.data.resize(offset + size);
  if (size == 0) return Offset{offset};
  DROVER_TRY(const std::size_t read,
             memory_.read(ForeignAddress(address), std::span(request_.data).subspan(offset, size)));
  const std::uint64_t got = std::min<std::uint64_t>(read, size);
  if (got < size && (front == nullptr || got == 0)) {
    request_.data.resize(before);
    if (front) *front = 0;
    return Offset{};
  }
  request_.data.resize(offset + got);
  if (front) *front = got;
  return Offset{offset};
}

Result<std::uint32_t> Marshaller::reserve(std::uint64_t address, std::uint64_t size,
                                          OutRange shape) {
  DROVER_CHECK(room(size));
  const std::uint32_t offset = suitable(tail_, address, size);
  if (size >= kSector && size % kSector == 0)
    tail_alignment_ =
        std::max<std::uint32_t>(tail_alignment_, address % kPageSize == 0 ? kPageSize : kSector);
  tail_ = offset + static_cast<std::uint32_t>(size);
  DROVER_CHECK(returns(offset | kInTail, static_cast<std::uint32_t>(size), address, shape));
  return offset | kInTail;
}

Status Marshaller::returns(std::uint32_t offset, std::uint32_t size, std::uint64_t destination,
                           OutRange shape) {
  if (size == 0) return {};
  if (request_.outs.size() == kMaxOutRanges) return too_large();
  shape.offset = offset;
  shape.capacity = size;
  shape.destination = ForeignAddress(destination);
  request_.outs.push_back(shape);
  return {};
}

Status Marshaller::point(std::uint32_t where, std::uint32_t target) {
  if (request_.relocations.size() == kMaxRelocations) return too_large();
  request_.relocations.push_back({where, target});
  return {};
}

Status Marshaller::point_argument(std::size_t index, Offset target) {
  request_.arguments[index] = target ? 0 : kBadPointer;
  if (!target) return {};
  return point(Relocation::kArgument + static_cast<std::uint32_t>(index), *target);
}

Status Marshaller::room(std::uint64_t more) const {
  if (more > kMaxCallBytes || filled() + tail_ + more > kMaxLayout - 2 * kPageSize)
    return too_large();
  return {};
}

Error Marshaller::too_large() const {
  return refusal(std::string(row_.name) + ": more than " + std::to_string(kMaxCallBytes >> 20) +
                 " MiB in one call");
}

std::uint64_t Marshaller::length_of(const ArgumentLength& length) const {
  const std::uint64_t value = original_[length.argument];
  const auto as_int = static_cast<std::int32_t>(value);
  // So large a count stays large: it is refused, not wrapped around.
  const auto scaled = [&](std::uint64_t count) {
    return std::min(count, std::uint64_t{1} << 40) * length.unit + length.fixed;
  };
  switch (length.source) {
    case ArgumentLength::kFixed:
      return length.fixed;
    case ArgumentLength::kSize:
      return scaled(value);
    case ArgumentLength::kInt:
      return scaled(static_cast<std::uint64_t>(std::max(as_int, 0)));
    case ArgumentLength::kUnsigned:
      return scaled(static_cast<std::uint32_t>(value));
    case ArgumentLength::kFdSet:
      return as_int <= 0 ? 0 : (static_cast<std::uint64_t>(as_int) + 63) / 64 * 8;
  }
  return 0;
}

}  // namespace

Status marshal_call(int number, const CallArguments& arguments, MemoryReader& memory,
                    CallRequest& request) {
  request.clear();
  request.number = number;
  const Syscall& row = syscall_row(number);
  if (!row.marshallable)
    return refusal(row.known() ? std::string(row.name) + " cannot be forwarded"
                               : "system call " + std::to_string(number) + " is not known");
  return Marshaller(row, arguments, memory, request).run();
}

}  // namespace drover
