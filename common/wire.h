// The wire format: little-endian fixed-width integers and length-prefixed byte strings.
// A Reader never reads outside its buffer, whatever the peer sent: after the first field
// that does not fit it is failed, gives zeros, and `finish` says so.
#pragma once

#include <bit>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/result.h"

namespace drover {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian, as x86-64 is");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// Whether all bytes of such an object are its value: what is between the members of others is what
/// was in memory before, and no business of the other node's.
template <class T>
inline constexpr bool kHasNoHoles = std::has_unique_object_representations_v<T>;
/// It pads itself by members (bits/types/siginfo_t.h), and the kernel sets all of it.
template <>
inline constexpr bool kHasNoHoles<siginfo_t> = true;

class WireWriter {
 public:
  template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) void number(T value) {
    raw({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  void bytes(ByteView data) {
    number(static_cast<std::uint32_t>(data.size()));
    raw(data);
  }
  void text(std::string_view s) { bytes(as_bytes(s)); }
  /// A kernel structure, as the kernel lays it out (both ends are x86-64 Linux).
  template <class T>
  requires(std::is_trivially_copyable_v<T>&& kHasNoHoles<T>) void record(const T& value) {
    raw({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  void raw(ByteView data) { out_.insert(out_.end(), data.begin(), data.end()); }

  const Bytes& data() const { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

class WireReader {
 public:
  explicit WireReader(ByteView data) : rest_(data) {}

  template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) T number() { return record<T>(); }
  /// A view into the reader's buffer; at most `limit` bytes, or the reader fails.
  ByteView bytes(std::size_t limit = SIZE_MAX) {
    const auto size = number<std::uint32_t>();
    if (size > limit) {
      failed_ = true;
      return {};
    }
    return raw(size);
  }
  std::string text(std::size_t limit = 4096) {
    const ByteView view = bytes(limit);
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }
  template <class T>
  requires std::is_trivially_copyable_v<T> T record() {
    T value{};
    const ByteView view = raw(sizeof value);
    if (!failed_) std::memcpy(&value, view.data(), sizeof value);
    return value;
  }
  ByteView raw(std::size_t size) {
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return {};
    }
    const ByteView view = rest_.first(size);
    rest_ = rest_.subspan(size);
    return view;
  }
  /// A count of items that each need at least `item_size` bytes: never more than can follow.
  std::uint32_t count(std::size_t item_size) {
    const auto n = number<std::uint32_t>();
    if (n > rest_.size() / item_size) failed_ = true;
    return failed_ ? 0 : n;
  }

  bool failed() const { return failed_; }
  std::size_t remaining() const { return rest_.size(); }
  /// Succeeds if every field fitted and nothing is left over.
  Status finish(const char* what) const {
    if (failed_) return refusal(std::string(what) + ": truncated or malformed message");
    if (!rest_.empty()) return refusal(std::string(what) + ": bytes left over at the end");
    return {};
  }

 private:
  ByteView rest_;
  bool failed_ = false;
};

}  // namespace drover
