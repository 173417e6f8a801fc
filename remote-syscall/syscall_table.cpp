#include "remote-syscall/syscall_table.h"

#include <asm/ioctl.h>
#include <fcntl.h>
#include <linux/msg.h>
#include <linux/sem.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <initializer_list>
#include <iterator>

namespace drover {
namespace {

// The vocabulary of the declarations.

using enum CallClass;
using enum ArgumentKind;

constexpr Argument v{};  // a value
constexpr Argument path{.kind = kString};
constexpr Argument mask_pack{.kind = kMaskPack};
constexpr Argument message_in{.kind = kMessageIn};
constexpr Argument message_out{.kind = kMessageOut};
constexpr Argument sized_in{.kind = kSizedIn};

constexpr ArgumentLength exactly(std::uint16_t bytes) { return {.fixed = bytes}; }
constexpr ArgumentLength size(std::uint8_t argument, std::uint16_t unit = 1,
                              std::uint16_t fixed = 0) {
  return {ArgumentLength::kSize, argument, unit, fixed};
}
constexpr ArgumentLength ints(std::uint8_t argument, std::uint16_t unit = 1) {
  return {ArgumentLength::kInt, argument, unit, 0};
}
constexpr ArgumentLength uints(std::uint8_t argument, std::uint16_t unit = 1) {
  return {ArgumentLength::kUnsigned, argument, unit, 0};
}
constexpr ArgumentLength fd_bits(std::uint8_t argument) {
  return {ArgumentLength::kFdSet, argument, 0, 0};
}

constexpr Argument in(ArgumentLength length) { return {.kind = kIn, .length = length}; }
constexpr Argument out(ArgumentLength length) { return {.kind = kOut, .length = length}; }
constexpr Argument inout(ArgumentLength length) { return {.kind = kInOut, .length = length}; }
constexpr Argument in(std::uint16_t bytes) { return in(exactly(bytes)); }
constexpr Argument out(std::uint16_t bytes) { return out(exactly(bytes)); }
constexpr Argument inout(std::uint16_t bytes) { return inout(exactly(bytes)); }

/// In, of which the kernel takes the readable front: it is a stream of bytes.
constexpr Argument front_in(ArgumentLength length) {
  return {.kind = kIn, .length = length, .partial = true};
}
/// Out, as much as the result says, in units of `unit` bytes.
constexpr Argument result_out(ArgumentLength length, std::uint16_t unit = 1) {
  return {.kind = kOut, .length = length, .result_unit = unit};
}
constexpr Argument at_least(std::uint8_t result, Argument argument) {
  argument.least_result = result;
  return argument;
}
constexpr Argument always(Argument argument) {
  argument.when = ReturnWhen::kAlways;
  return argument;
}
/// poll's descriptors: written also when a signal ended the wait.
constexpr Argument polled(ArgumentLength length) {
  return {.kind = kInOut, .length = length, .when = ReturnWhen::kSucceededOrInterrupted};
}
/// A timeval or timespec in which select and its like leave what was left, if they can.
constexpr Argument time_left{
    .kind = kInOut, .length = exactly(16), .when = ReturnWhen::kAlways, .fault_ignored = true};
/// What a sleep leaves when it is interrupted; nothing if it was absolute, so it goes in too.
constexpr Argument time_unslept{
    .kind = kInOut, .length = exactly(16), .when = ReturnWhen::kInterrupted};

constexpr Argument iovec_in(std::uint8_t count) {
  return {.kind = kIovecIn, .length = size(count, 16), .partial = true};
}
constexpr Argument iovec_out(std::uint8_t count) {
  return {.kind = kIovecOut, .length = size(count, 16)};
}
constexpr Argument messages_in(std::uint8_t count) {
  return {.kind = kMessagesIn, .length = uints(count, 64)};
}
constexpr Argument messages_out(std::uint8_t count) {
  return {.kind = kMessagesOut, .length = uints(count, 64)};
}
/// A socket address; none is longer than sockaddr_storage.
constexpr Argument address_out(std::uint8_t length_pointer) {
  return {.kind = kValueResult, .length = {ArgumentLength::kInt, length_pointer, 1, 128}};
}
/// A socket option: some say in the buffer what is asked for.
constexpr Argument option_out(std::uint8_t length_pointer) {
  return {.kind = kValueResult,
          .length = {ArgumentLength::kInt, length_pointer, 1, 0},
          .also_in = true};
}
constexpr Argument chosen(std::uint8_t selector, std::span<const Choice> choices) {
  return {.kind = kChosen, .length = uints(selector), .choices = choices};
}
constexpr Argument chosen_by_request(std::uint8_t selector, std::span<const Choice> choices) {
  return {.kind = kChosen, .length = uints(selector), .ioctl = true, .choices = choices};
}

constexpr Condition equals(std::uint8_t argument, std::uint32_t value) {
  return {.argument = argument, .low = value};
}
constexpr Condition masked(std::uint8_t argument, std::uint32_t mask, std::uint32_t value) {
  return {.argument = argument, .mask = mask, .low = value};
}
constexpr Condition range(std::uint8_t argument, std::uint32_t low, std::uint32_t high) {
  return {.argument = argument, .test = Condition::kRange, .low = low, .high = high};
}
constexpr std::uint64_t bits(std::initializer_list<int> members) {
  std::uint64_t set = 0;
  for (int member : members) set |= std::uint64_t{1} << member;
  return set;
}
constexpr Condition in_set(std::uint8_t argument, std::uint64_t set,
                           std::uint32_t mask = 0xffffffff) {
  return {.argument = argument,
          .test = Condition::kInSet,
          .mask = mask,
          .low = static_cast<std::uint32_t>(set),
          .high = static_cast<std::uint32_t>(set >> 32)};
}
constexpr Condition one_of(std::uint8_t argument, std::initializer_list<int> members,
                           std::uint32_t mask = 0xffffffff) {
  return in_set(argument, bits(members), mask);
}
constexpr Condition own_pid(std::uint8_t argument) {
  return {.argument = argument, .test = Condition::kOwnPid};
}
constexpr Condition pointer(std::uint8_t argument) {
  return {.argument = argument, .test = Condition::kPointer};
}
constexpr Exception when(CallClass call_class, Condition a) { return {call_class, 1, {a, {}}}; }
constexpr Exception when(CallClass call_class, Condition a, Condition b) {
  return {call_class, 2, {a, b}};
}

struct Row {
  int number;
  Syscall syscall;

  constexpr Row except(std::span<const Exception> exceptions) const {
    Row row = *this;
    row.syscall.exceptions = exceptions;
    return row;
  }
};

constexpr Row bare(int number, std::string_view name, CallClass call_class) {
  return {number, {.name = name, .call_class = call_class}};
}

constexpr Row row(int number, std::string_view name, CallClass call_class,
                  std::initializer_list<Argument> arguments) {
  Row row = bare(number, name, call_class);
  row.syscall.arity = static_cast<std::uint8_t>(arguments.size());
  std::copy(arguments.begin(), arguments.end(), row.syscall.arguments.begin());
  row.syscall.marshallable = true;
  return row;
}

#include "remote-syscall/syscall_choices.def"

/// What syscall_effects.def says of one row.
struct WithoutEffect {
  std::string_view name;
  Effect effect = Effect::kNone;
  Condition condition = {};

  constexpr WithoutEffect on_regular_files() const { return {name, Effect::kNoneOnRegular, {}}; }
  constexpr WithoutEffect only_if(Condition c) const { return {name, Effect::kNoneIfHolds, c}; }
  constexpr WithoutEffect unless(Condition c) const { return {name, Effect::kNoneUnlessHolds, c}; }
};
constexpr WithoutEffect without_effect(std::string_view name) { return {name}; }

constexpr WithoutEffect kWithoutEffect[] = {
#include "remote-syscall/syscall_effects.def"
};

constexpr auto kRows = [] {
  auto rows = std::to_array<Row>({
#include "remote-syscall/syscall_table.def"
  });
  for (const WithoutEffect& declared : kWithoutEffect) {
    const auto named = [&](const Row& row) { return row.syscall.name == declared.name; };
    const auto found = std::find_if(rows.begin(), rows.end(), named);
    if (found == rows.end() || !found->syscall.marshallable) throw "no such call is forwarded";
    if (found->syscall.effect != Effect::kSome) throw "declared twice";
    found->syscall.effect = declared.effect;
    found->syscall.effect_condition = declared.condition;
  }
  return rows;
}();

constexpr bool sorted(std::span<const Choice> choices) {
  return std::is_sorted(choices.begin(), choices.end(),
                        [](const Choice& a, const Choice& b) { return a.selector < b.selector; });
}
static_assert(sorted(kFcntl) && sorted(kIoctl) && sorted(kPrctl) && sorted(kSemctl) &&
              sorted(kMsgctl));

constexpr bool ascending() {
  for (std::size_t i = 1; i < std::size(kRows); ++i)
    if (kRows[i - 1].number >= kRows[i].number) return false;
  return kRows[std::size(kRows) - 1].number < kSyscallLimit;
}
static_assert(ascending(), "every number once, in order");

constexpr Syscall kUnknown{};

constexpr auto kByNumber = [] {
  std::array<std::uint16_t, kSyscallLimit> index{};
  for (std::size_t i = 0; i < std::size(kRows); ++i)
    index[static_cast<std::size_t>(kRows[i].number)] = static_cast<std::uint16_t>(i + 1);
  return index;
}();

/// What a request of a known family says about itself; nothing for the others.
const Argument* request_argument(std::uint32_t request, Argument& storage) {
  const auto size = static_cast<std::uint16_t>(_IOC_SIZE(request));
  const std::uint32_t direction = _IOC_DIR(request);
  const bool known = std::ranges::any_of(kIoctlFamilies, [&](const IoctlFamily& family) {
    return family.type == _IOC_TYPE(request) && family.first <= _IOC_NR(request) &&
           _IOC_NR(request) <= family.last;
  });
  if (!known || direction == _IOC_NONE || size == 0) return nullptr;
  storage = direction == _IOC_WRITE ? in(size) : inout(size);
  return &storage;
}

}  // namespace

const Syscall& syscall_row(int number) {
  if (number < 0 || number >= kSyscallLimit) return kUnknown;
  const std::uint16_t index = kByNumber[static_cast<std::size_t>(number)];
  return index == 0 ? kUnknown : kRows[index - 1].syscall;
}

std::string_view syscall_name(int number) {
  const Syscall& row = syscall_row(number);
  return row.known() ? row.name : "unknown";
}

int syscall_number(std::string_view name) {
  for (const Row& row : kRows)
    if (row.syscall.name == name) return row.number;
  return -1;
}

bool Condition::holds(const CallArguments& arguments, std::int32_t pid) const {
  const std::uint64_t whole = arguments[argument];
  const auto value = static_cast<std::uint32_t>(whole);
  switch (test) {
    case kEquals:
      return (value & mask) == low;
    case kDiffers:
      return (value & mask) != low;
    case kRange:
      return low <= (value & mask) && (value & mask) <= high;
    case kInSet: {
      const std::uint32_t member = value & mask;
      return member < 64 && ((member < 32 ? low >> member : high >> (member - 32)) & 1);
    }
    case kOwnPid:
      return value == static_cast<std::uint32_t>(pid);
    case kPointer:
      return whole != 0;
  }
  return false;
}

CallClass classify_call(int number, const CallArguments& arguments, std::int32_t pid) {
  const Syscall& row = syscall_row(number);
  for (const Exception& exception : row.exceptions) {
    const auto holds = [&](const Condition& c) { return c.holds(arguments, pid); };
    if (std::ranges::all_of(exception.all(), holds)) return exception.call_class;
  }
  return row.call_class;
}

Effect effect_of_call(int number, const CallArguments& arguments) {
  const Syscall& row = syscall_row(number);
  const auto holds = [&] { return row.effect_condition.holds(arguments, 0); };
  switch (row.effect) {
    case Effect::kNoneIfHolds:
      return holds() ? Effect::kNone : Effect::kSome;
    case Effect::kNoneUnlessHolds:
      return holds() ? Effect::kSome : Effect::kNone;
    default:
      return row.effect;
  }
}

std::string_view class_name(CallClass call_class) {
  switch (call_class) {
    case kLocal:
      return "local";
    case kForwarded:
      return "forwarded";
    case kBoth:
      return "both";
    case kFollowed:
      return "followed";
    case kServed:
      return "served";
    case kComeHome:
      return "come home";
    case kExit:
      return "exit";
  }
  return "unknown";
}

const Argument* resolve_argument(const Syscall& row, std::size_t index,
                                 const CallArguments& arguments, Argument& storage) {
  const Argument& argument = row.arguments[index];
  if (argument.kind != kChosen) return &argument;
  const auto selector = static_cast<std::uint32_t>(arguments[argument.length.argument]);
  const auto found =
      std::lower_bound(argument.choices.begin(), argument.choices.end(), selector,
                       [](const Choice& c, std::uint32_t value) { return c.selector < value; });
  if (found != argument.choices.end() && found->selector == selector) return &found->argument;
  return argument.ioctl ? request_argument(selector, storage) : nullptr;
}

bool is_clone(int number) { return number == 56 || number == 435; }

bool may_restart_block(int number) {
  switch (number) {
    case 7:    // poll
    case 35:   // nanosleep
    case 202:  // futex
    case 219:  // restart_syscall
    case 230:  // clock_nanosleep
      return true;
    default:
      return false;
  }
}

}  // namespace drover
