#include "remote-syscall/filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

#include "remote-syscall/syscall_table.h"

namespace drover {
namespace {

using Program = std::vector<sock_filter>;

constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t kNotify = SECCOMP_RET_USER_NOTIF;
/// A jump's target that is not yet known: the end of the exception it belongs to.
constexpr std::uint8_t kFail = 0xff;

sock_filter statement(std::uint16_t code, std::uint32_t k) { return {code, 0, 0, k}; }
sock_filter jump(std::uint16_t test, std::uint32_t k, std::uint8_t yes, std::uint8_t no) {
  return {static_cast<std::uint16_t>(BPF_JMP | BPF_K | test), yes, no, k};
}
sock_filter load(std::size_t offset) {
  return statement(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
}
sock_filter answer(bool local) { return statement(BPF_RET | BPF_K, local ? kAllow : kNotify); }

void append(Program& program, const Program& more) {
  program.insert(program.end(), more.begin(), more.end());
}

/// Goes on behind its end if the value loaded is in the set, else to kFail.
Program membership(std::uint64_t set) {
  Program program;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> runs;
  for (std::uint32_t i = 0; i < 64; ++i) {
    if (!(set >> i & 1)) continue;
    if (!runs.empty() && runs.back().second + 1 == i)
      runs.back().second = i;
    else
      runs.push_back({i, i});
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const bool last = i + 1 == runs.size();
    const auto to_end = static_cast<std::uint8_t>(2 * (runs.size() - i) - 2);
    program.push_back(jump(BPF_JGE, runs[i].first, 0, kFail));
    program.push_back(
        jump(BPF_JGT, runs[i].second, last ? kFail : std::uint8_t{0}, last ? 0 : to_end));
  }
  return program;
}

/// Goes on behind its end if the condition holds, else to kFail.
Program test(const Condition& condition, std::int32_t pid) {
  const std::size_t low = offsetof(seccomp_data, args) + condition.argument * sizeof(std::uint64_t);
  Program program{load(low)};
  if (condition.mask != 0xffffffff && condition.test != Condition::kOwnPid)
    program.push_back(statement(BPF_ALU | BPF_AND | BPF_K, condition.mask));
  switch (condition.test) {
    case Condition::kEquals:
      program.push_back(jump(BPF_JEQ, condition.low, 0, kFail));
      break;
    case Condition::kDiffers:
      program.push_back(jump(BPF_JEQ, condition.low, kFail, 0));
      break;
    case Condition::kRange:
      program.push_back(jump(BPF_JGE, condition.low, 0, kFail));
      program.push_back(jump(BPF_JGT, condition.high, kFail, 0));
      break;
    case Condition::kInSet:
      append(program, membership(std::uint64_t{condition.high} << 32 | condition.low));
      break;
    case Condition::kOwnPid:
      program.push_back(jump(BPF_JEQ, static_cast<std::uint32_t>(pid), 0, kFail));
      break;
    case Condition::kPointer:
      program.push_back(jump(BPF_JEQ, 0, 0, 2));
      program.push_back(load(low + sizeof(std::uint32_t)));
      program.push_back(jump(BPF_JEQ, 0, kFail, 0));
      break;
  }
  return program;
}

/// Decides a call whose class depends on its arguments.
Program decide(const Syscall& row, std::int32_t pid) {
  Program program;
  for (const Exception& exception : row.exceptions) {
    Program block;
    for (const Condition& condition : exception.all()) append(block, test(condition, pid));
    block.push_back(answer(exception.call_class == CallClass::kLocal));
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto to_end = static_cast<std::uint8_t>(block.size() - i - 1);
      if (BPF_CLASS(block[i].code) != BPF_JMP) continue;
      if (block[i].jt == kFail) block[i].jt = to_end;
      if (block[i].jf == kFail) block[i].jf = to_end;
    }
    append(program, block);
  }
  program.push_back(answer(row.call_class == CallClass::kLocal));
  return program;
}

/// What is done with the numbers from `first` up to the next leaf.
struct Leaf {
  std::uint32_t first;
  Program program;
};

bool ever_local(const Syscall& row) {
  return row.call_class == CallClass::kLocal ||
         std::ranges::any_of(row.exceptions, [](const Exception& exception) {
           return exception.call_class == CallClass::kLocal;
         });
}

bool operator==(const Program& a, const Program& b) {
  return std::ranges::equal(a, b, [](const sock_filter& x, const sock_filter& y) {
    return x.code == y.code && x.jt == y.jt && x.jf == y.jf && x.k == y.k;
  });
}

bool is_made_by_the_guest(int number) { return number == SYS_clone3 || number == SYS_close; }

/// Allows a call where `ours` is the instruction pointer.
Program only_there(ForeignAddress ours) {
  const std::size_t at = offsetof(seccomp_data, instruction_pointer);
  return {
      load(at),
      jump(BPF_JEQ, static_cast<std::uint32_t>(ours.value()), 0, 3),
      load(at + sizeof(std::uint32_t)),
      jump(BPF_JEQ, static_cast<std::uint32_t>(ours.value() >> 32), 0, 1),
      answer(true),
      answer(false),
  };
}

Program decide(int number, std::int32_t pid, ForeignAddress ours) {
  const Syscall& row = syscall_row(number);
  if (is_made_by_the_guest(number)) return only_there(ours);
  return ever_local(row) ? decide(row, pid) : Program{answer(false)};
}

std::vector<Leaf> leaves(std::int32_t pid, ForeignAddress ours) {
  std::vector<Leaf> all;
  for (int number = 0; number <= kSyscallLimit; ++number) {
    Program program = decide(number, pid, ours);
    if (all.empty() || !(all.back().program == program))
      all.push_back({static_cast<std::uint32_t>(number), std::move(program)});
  }
  return all;
}

/// A balanced tree of comparisons of the number that is loaded. Numbers above the last leaf's
/// first (x32 calls have bit 30 set) belong to that leaf: nothing of the table is up there.
Program tree(std::span<const Leaf> leaves) {
  if (leaves.size() == 1) return leaves.front().program;
  const std::size_t middle = leaves.size() / 2;
  const Program below = tree(leaves.first(middle));
  Program program;
  if (below.size() <= 0xff) {
    program.push_back(
        jump(BPF_JGE, leaves[middle].first, static_cast<std::uint8_t>(below.size()), 0));
  } else {
    program.push_back(jump(BPF_JGE, leaves[middle].first, 0, 1));
    program.push_back(
        // BPF_JA and BPF_K are both 0. NOLINTNEXTLINE(misc-redundant-expression)
        statement(BPF_JMP | BPF_JA | BPF_K, static_cast<std::uint32_t>(below.size())));
  }
  append(program, below);
  append(program, tree(leaves.subspan(middle)));
  return program;
}

}  // namespace

std::vector<sock_filter> build_filter(std::int32_t pid, ForeignAddress ours) {
  Program program{
      load(offsetof(seccomp_data, arch)),
      jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
      answer(false),
      load(offsetof(seccomp_data, nr)),
  };
  append(program, tree(leaves(pid, ours)));
  return program;
}

}  // namespace drover
