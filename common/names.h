// The names of nodes, zones and clusters.
#pragma once

#include <string_view>

namespace drover {

inline constexpr std::size_t kMaxNameLength = 63;

/// Whether `name` is [a-z0-9][a-z0-9.-]{0,62}: safe in file names, tables and host names.
constexpr bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  for (const char& c : name) {
    const bool letter_or_digit = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!letter_or_digit && (&c == name.data() || (c != '.' && c != '-'))) return false;
  }
  return true;
}

}  // namespace drover
