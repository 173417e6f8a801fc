#include "common/process/limits.h"

#include <charconv>

#include "common/process/memory_map.h"

namespace drover {
namespace {

Result<std::string> limits_of(pid_t pid) {
  return read_proc_file("/proc/" + std::to_string(pid) + "/limits");
}

/// The words behind the name of a row.
std::optional<std::string_view> row_of(std::string_view limits, std::string_view name) {
  const auto row = limits.find("\n" + std::string(name) + " ");
  if (row == std::string_view::npos) return std::nullopt;
  const std::string_view rest = limits.substr(row + 1 + name.size());
  return rest.substr(0, rest.find('\n'));
}

std::string_view next_word(std::string_view& row) {
  row.remove_prefix(std::min(row.find_first_not_of(' '), row.size()));
  const std::string_view word = row.substr(0, row.find(' '));
  row.remove_prefix(word.size());
  return word;
}

std::optional<std::uint64_t> limit_value(std::string_view word) {
  if (word == "unlimited") return Limit::kNone;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

Result<Limit> required(const std::string& limits, std::string_view name) {
  const auto limit = limit_in(limits, name);
  return limit ? Result<Limit>(*limit) : refusal("the limits of the process are not as expected");
}

}  // namespace

std::optional<std::string> soft_limit_of(pid_t pid, std::string_view name) {
  const auto limits = limits_of(pid);
  auto row = limits ? row_of(*limits, name) : std::nullopt;
  if (!row) return std::nullopt;
  return std::string(next_word(*row));
}

std::optional<Limit> limit_in(const std::string& limits, std::string_view name) {
  auto row = row_of(limits, name);
  if (!row) return std::nullopt;
  const auto soft = limit_value(next_word(*row));
  const auto hard = limit_value(next_word(*row));
  return soft && hard ? std::optional(Limit{*soft, *hard}) : std::nullopt;
}

Result<Limit> cpu_limit_of(pid_t pid) {
  DROVER_TRY(const std::string limits, limits_of(pid));
  return required(limits, "Max cpu time");
}

Result<MemoryLimits> memory_limits_of(pid_t pid) {
  DROVER_TRY(const std::string limits, limits_of(pid));
  MemoryLimits all;
  DROVER_TRY(all.address_space, required(limits, "Max address space"));
  DROVER_TRY(all.data, required(limits, "Max data size"));
  DROVER_TRY(all.stack, required(limits, "Max stack size"));
  return all;
}

}  // namespace drover
