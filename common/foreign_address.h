// Addresses in another process, of a type that cannot be mistaken for a pointer of ours.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace drover {

inline constexpr std::uint64_t kPageSize = 4096;

/// An address in the memory of a traced process.
class ForeignAddress {
 public:
  constexpr ForeignAddress() = default;
  constexpr explicit ForeignAddress(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }
  constexpr bool is_null() const { return value_ == 0; }

  // clang-tidy 14 sees a null pointer in a defaulted <=>.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  constexpr auto operator<=>(const ForeignAddress&) const = default;
  constexpr ForeignAddress operator+(std::uint64_t bytes) const {
    return ForeignAddress(value_ + bytes);
  }
  constexpr ForeignAddress operator-(std::uint64_t bytes) const {
    return ForeignAddress(value_ - bytes);
  }
  constexpr std::uint64_t operator-(ForeignAddress other) const { return value_ - other.value_; }

 private:
  std::uint64_t value_ = 0;
};

/// [start, end) in the memory of a traced process.
struct ForeignRange {
  ForeignAddress start;
  ForeignAddress end;

  constexpr std::uint64_t size() const { return end - start; }
  constexpr bool contains(ForeignAddress a) const { return start <= a && a < end; }
  constexpr bool overlaps(const ForeignRange& o) const { return start < o.end && o.start < end; }
  constexpr bool operator==(const ForeignRange&) const = default;
};

}  // namespace drover
