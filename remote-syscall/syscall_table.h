// Every x86-64 system call: where it is executed while a process is away, and how each of its
// arguments travels. One declaration (syscall_table.cpp), from which the marshalling and the
// body's seccomp filter are made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace drover {

/// Numbers outside [0, kSyscallLimit) and numbers without a row come home.
inline constexpr int kSyscallLimit = 512;

using CallArguments = std::array<std::uint64_t, 6>;

/// Where a call of an away process is executed.
enum class CallClass : std::uint8_t {
  kLocal,      ///< in the body, unseen: the filter allows it
  kForwarded,  ///< in P
  kBoth,       ///< in the body at once, mirrored in P
  kFollowed,   ///< in P; the guest makes the body follow, or adds what it knows: protocol 2
  kServed,     ///< by the guest, with help from home; what cannot be served comes home
  kComeHome,   ///< the process comes home and executes it natively
  kExit,       ///< exit and exit_group
};

/// What the register of an argument holds.
enum class ArgumentKind : std::uint8_t {
  kValue,        ///< a number: it travels as it is
  kString,       ///< in: NUL-terminated, at most PATH_MAX bytes
  kIn,           ///< in: `length` bytes
  kOut,          ///< out: `length` bytes of room
  kInOut,        ///< in and out: `length` bytes
  kSizedIn,      ///< in: a structure whose first u32 is its own size, which the kernel corrects
  kIovecIn,      ///< an array of iovec (count in the length), whose buffers are in
  kIovecOut,     ///< the same, whose buffers are out
  kMessageIn,    ///< a msghdr to be sent
  kMessageOut,   ///< a msghdr to be received into
  kMessagesIn,   ///< an array of mmsghdr (count in the length), to be sent
  kMessagesOut,  ///< the same, to be received into
  kValueResult,  ///< out: the room stands in an int that argument `length.argument` points to, as
                 ///< does the length afterwards (that argument is itself kInOut); at most
                 ///< `length.fixed` bytes, if not 0
  kMaskPack,     ///< pselect6's {pointer to a signal mask, its size}
  kChosen,       ///< what it is depends on argument `length.argument`: see `choices`
};

/// From where the length of a buffer is known. bytes = fixed + unit * (argument's value).
struct ArgumentLength {
  enum Source : std::uint8_t {
    kFixed,     ///< no argument counts
    kSize,      ///< the argument is a size_t
    kInt,       ///< an int; negative counts as 0 (the kernel refuses it by itself)
    kUnsigned,  ///< an unsigned int
    kFdSet,     ///< an int, the number of descriptors in an fd_set (whole longs)
  };
  Source source = kFixed;
  std::uint8_t argument = 0;
  std::uint16_t unit = 0;
  std::uint16_t fixed = 0;
};

/// After which results the out part of an argument is written back.
enum class ReturnWhen : std::uint8_t {
  kSucceeded,    ///< result >= 0
  kInterrupted,  ///< -EINTR or one of the kernel's internal restart codes
  kSucceededOrInterrupted,
  kAlways,
};

struct Choice;

/// How one argument is marshalled.
struct Argument {
  ArgumentKind kind = ArgumentKind::kValue;
  ArgumentLength length = {};
  /// Out: 0 returns all of it, else `result * result_unit + length.fixed` bytes.
  std::uint16_t result_unit = 0;
  ReturnWhen when = ReturnWhen::kSucceeded;
  /// Out, on success: returned only if the result is at least this.
  std::uint8_t least_result = 0;
  /// Out: memory that cannot be written is no error (the time left of select).
  bool fault_ignored = false;
  /// kValueResult: the contents are read by the kernel too.
  bool also_in = false;
  /// In: if only the front part can be read, that part is the call's (write and the like).
  bool partial = false;
  /// kChosen: the selector is an ioctl request, sizes of known families are read out of it.
  bool ioctl = false;
  std::span<const Choice> choices = {};

  constexpr bool is_pointer() const { return kind != ArgumentKind::kValue; }
};

/// One meaning of a kChosen argument. Sorted by selector.
struct Choice {
  std::uint32_t selector;
  Argument argument;
};

/// A test of the low 32 bits of one argument, simple enough for a seccomp filter.
struct Condition {
  enum Test : std::uint8_t {
    kEquals,   ///< (value & mask) == low
    kDiffers,  ///< (value & mask) != low
    kRange,    ///< low <= (value & mask) <= high
    kInSet,    ///< (value & mask) < 64, and that bit is set in high:low
    kOwnPid,   ///< value is the process's own pid
    kPointer,  ///< all 64 bits of the value are not 0
  };
  std::uint8_t argument = 0;
  Test test = kEquals;
  std::uint32_t mask = 0xffffffff;
  std::uint32_t low = 0;
  std::uint32_t high = 0;

  /// Whether it holds for a call of the process `pid`.
  bool holds(const CallArguments& arguments, std::int32_t pid) const;
};

/// A call of which all `conditions` hold has this class instead of the row's own.
struct Exception {
  CallClass call_class;
  std::uint8_t count;
  std::array<Condition, 2> conditions;

  constexpr std::span<const Condition> all() const { return {conditions.data(), count}; }
};

/// Whether it makes a difference, besides to its caller's memory, that a call has been made.
enum class Effect : std::uint8_t {
  kSome,            ///< it does, or may
  kNone,            ///< nobody can tell
  kNoneOnRegular,   ///< nobody can tell, if its first argument is the descriptor of a regular file
  kNoneIfHolds,     ///< nobody can tell, if `effect_condition` holds
  kNoneUnlessHolds  ///< nobody can tell, unless that holds
};

/// A row of the table. `arguments` says nothing for classes that never marshal.
struct Syscall {
  std::string_view name;
  CallClass call_class = CallClass::kComeHome;
  std::uint8_t arity = 0;
  std::array<Argument, 6> arguments = {};
  /// The first that holds decides.
  std::span<const Exception> exceptions = {};
  /// Declared in syscall_effects.def; of what is not forwarded it says nothing.
  Effect effect = Effect::kSome;
  Condition effect_condition = {};

  bool known() const { return !name.empty(); }
  /// Whether the row says how all arguments travel (else the call can only come home or stay).
  bool marshallable = false;
};

/// The row of `number`; for numbers without one, a nameless row that comes home.
const Syscall& syscall_row(int number);

/// "openat"; "unknown" for a number without a row.
std::string_view syscall_name(int number);

/// The number of a name, or -1.
int syscall_number(std::string_view name);

/// The class of a call with these arguments, issued by the process `pid`.
CallClass classify_call(int number, const CallArguments& arguments, std::int32_t pid);

/// kSome, kNone or kNoneOnRegular, for a call with these arguments.
Effect effect_of_call(int number, const CallArguments& arguments);

/// Words for messages and counters: "local", "forwarded" ...
std::string_view class_name(CallClass);

/// How argument `index` travels when the arguments are these: kChosen resolved. Nothing if the
/// choice is not one that can be marshalled (an unknown ioctl).
const Argument* resolve_argument(const Syscall&, std::size_t index, const CallArguments&,
                                 Argument& storage);

/// Whether it is clone(2) or clone3(2).
bool is_clone(int number);

/// Whether an interruption of the call can end in ERESTART_RESTARTBLOCK (-516), after which the
/// kernel issues restart_syscall.
bool may_restart_block(int number);

}  // namespace drover
