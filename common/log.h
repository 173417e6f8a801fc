// What a daemon has to say, on stderr: one line each, for a person or for the journal.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "common/result.h"

namespace drover {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

/// "debug", "info", "warn" or "error".
Result<LogLevel> parse_log_level(std::string_view text);

/// Starts logging as `program`, dropping lines below `level`. Call it once, before threads.
/// Before it, lines go out as those of "drover" at level info.
/// Under the journal (stderr is the stream of JOURNAL_STREAM, systemd.exec(5)) lines carry the
/// priority prefix of sd-daemon(3) in place of a date.
void log_init(const std::string& program, LogLevel level);
/// Puts `node` into the prefix of every line from now on. Not while other threads log.
void log_set_node(const std::string& node);

bool log_enabled(LogLevel level);
/// Writes one line. Control characters are escaped: what a peer sent cannot forge a line.
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kDebug))
    log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kInfo))
    log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kWarn))
    log_line(LogLevel::kWarn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kError))
    log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace drover
