// A forwarded call as it travels: the guest marshals it out of the body's memory (CallRequest),
// the deputy lays it out in P's scratch mapping and executes it there, and what the kernel wrote
// comes back (CallReply). All by the rules of syscall_table.h; no call is marshalled by hand.
//
//   guest:   marshal_call -> CallRequest -> encode_head, data
//   deputy:  decode -> place -> write `data` at the scratch, inject -> pieces_to_return
//            -> read the pieces one after the other -> CallReply -> encode_head, data
//   guest:   decode -> apply_reply
//
// Pointers that the kernel would refuse stay refused: they are replaced by kBadPointer, so that
// the kernel at home finds the fault itself, in its own order (EBADF before EFAULT).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/foreign_address.h"
#include "common/result.h"
#include "common/wire.h"
#include "remote-syscall/syscall_table.h"

namespace drover {

/// What one call may carry in and out; more comes home.
inline constexpr std::uint32_t kMaxCallBytes = 16u << 20;
/// The largest scratch: kMaxCallBytes with headers and alignment. The scratch begins on a page.
inline constexpr std::uint32_t kMaxLayout = 17u << 20;
inline constexpr std::size_t kMaxRelocations = 16384;
inline constexpr std::size_t kMaxOutRanges = 16384;
/// No process can have anything there, so every kernel answers EFAULT.
inline constexpr std::uint64_t kBadPointer = 0xfffffffffffff000;

/// Reads a process's memory.
class MemoryReader {
 public:
  virtual ~MemoryReader() = default;
  /// Reads up to `into.size()` bytes; returns how many could be read before the first byte that
  /// cannot (0: nothing there). An error means that the process cannot be read at all.
  virtual Result<std::size_t> read(ForeignAddress, std::span<std::byte> into) = 0;
};

/// Writes a process's memory.
class MemoryWriter {
 public:
  virtual ~MemoryWriter() = default;
  /// Writes all of `data`; Error with code EFAULT if not all could be written.
  virtual Status write(ForeignAddress, ByteView data) = 0;
};

/// A pointer to be set once the scratch's address is known.
struct Relocation {
  static constexpr std::uint32_t kArgument = 0x80000000;
  /// kArgument + index of an argument, or the offset of 8 bytes inside the data.
  std::uint32_t where = 0;
  /// What it points to, as an offset in the scratch.
  std::uint32_t target = 0;
};

/// A part of the scratch that the kernel writes.
struct OutRange {
  enum Length : std::uint8_t {
    kWhole,   ///< all of it
    kResult,  ///< result * unit - skip bytes
    kValue,   ///< (the u32 at value_offset in the scratch, after the call) - skip bytes
  };
  std::uint32_t offset = 0;
  std::uint32_t capacity = 0;
  Length length = kWhole;
  ReturnWhen when = ReturnWhen::kSucceeded;
  bool fault_ignored = false;
  std::uint16_t unit = 0;
  std::int32_t skip = 0;
  std::uint32_t value_offset = 0;
  /// On success: returned only if the result is at least this.
  std::uint32_t least_result = 0;
  /// Where it goes in the body. Stays with the guest: it does not travel.
  ForeignAddress destination;
};

/// A call on its way home. Reuse the object: its vectors keep their room, so that a small call
/// costs no allocation.
struct CallRequest {
  std::int32_t number = -1;
  CallArguments arguments = {};
  /// Scratch bytes needed in all. `data` fills them from offset 0; the rest is for the kernel.
  std::uint32_t layout_size = 0;
  std::vector<Relocation> relocations;
  std::vector<OutRange> outs;
  Bytes data;

  void clear();
  /// Writes everything but `data`, which must follow at once (as the body of the frame).
  void encode_head(WireWriter&) const;
  void encode(WireWriter& writer) const {
    encode_head(writer);
    writer.raw(data);
  }
  /// Replaces this by what the reader holds from here to its end. Refuses whatever does not fit
  /// into `layout_size`, or is larger than the limits above; the object is then to be cleared.
  Status decode(WireReader&);
};

/// Marshals a call into `request`, reading the caller's memory. By the table's rules only: the
/// caller has asked classify_call before. Error code 0: the call cannot be marshalled and the
/// process must come home, `what` says why. Other codes: the caller's memory is unreachable.
Status marshal_call(int number, const CallArguments&, MemoryReader&, CallRequest& request);

/// Sets all pointers for a scratch that begins at `scratch`: those inside `request.data` in
/// place, those in registers in the returned arguments.
CallArguments place(CallRequest& request, ForeignAddress scratch);

/// A part of the scratch, in bytes from its beginning.
struct Piece {
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
};

/// Which parts of P's scratch go back, after the raw result of the call (a negative errno, also
/// -512..-516: interrupted before it took effect). Lengths that the kernel wrote are read from
/// the scratch at `scratch`. Replaces `pieces`; returns the sum of their lengths in bytes.
Result<std::size_t> pieces_to_return(const CallRequest&, std::int64_t result, MemoryReader& p,
                                     ForeignAddress scratch, std::vector<Piece>& pieces);

/// The answer to a CallRequest.
struct CallReply {
  std::int64_t result = 0;
  std::vector<Piece> pieces;
  /// The pieces' contents, one after the other. A view: into the deputy's buffer, or after
  /// `decode` into the reader's.
  ByteView data;

  /// Writes everything but `data`, which must follow at once (as the body of the frame).
  void encode_head(WireWriter&) const;
  void encode(WireWriter& writer) const {
    encode_head(writer);
    writer.raw(data);
  }
  /// Replaces this by what the reader holds from here to its end.
  Status decode(WireReader&);
};

/// Writes what the kernel wrote at home into the body. Refuses (code 0) a reply with pieces that
/// the request did not ask for, before anything is written. Code EFAULT: the caller's buffer
/// cannot be written; the call's answer is then -EFAULT.
Status apply_reply(const CallRequest&, const CallReply&, MemoryWriter& body);

}  // namespace drover
