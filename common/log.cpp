#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace drover {
namespace {

/// Whether stderr is the journal's own stream (systemd.exec(5), JOURNAL_STREAM).
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &status) < 0) return false;
  return fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

struct LogState {
  std::string program = "drover";
  std::string node;
  bool journal = stderr_is_journal();
  spdlog::logger logger{"drover", std::make_shared<spdlog::sinks::stderr_sink_mt>()};

  LogState() { logger.set_pattern(journal ? "%v" : "%Y-%m-%d %H:%M:%S.%e %v"); }
};

/// Never destroyed: threads may log while the program ends.
LogState& state() {
  static auto* instance = new LogState;
  return *instance;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

const char* level_word(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warning";
    case LogLevel::kError:
      break;
  }
  return "error";
}

/// syslog(3) priorities.
char journal_priority(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return '7';
    case LogLevel::kInfo:
      return '6';
    case LogLevel::kWarn:
      return '4';
    case LogLevel::kError:
      break;
  }
  return '3';
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out;
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn") return LogLevel::kWarn;
  if (text == "error") return LogLevel::kError;
  return refusal("log-level: must be debug, info, warn or error");
}

void log_init(const std::string& program, LogLevel level) {
  state().program = program;
  state().logger.set_level(spdlog_level(level));
  state().logger.flush_on(spdlog::level::trace);
}

void log_set_node(const std::string& node) { state().node = node; }

bool log_enabled(LogLevel level) { return state().logger.should_log(spdlog_level(level)); }

void log_line(LogLevel level, std::string_view text) {
  const LogState& log = state();
  std::string line;
  if (log.journal)  // which keeps the time and the program itself
    line = fmt::format("<{}>{}{}{}", journal_priority(level), log.node,
                       log.node.empty() ? "" : ": ", printable(text));
  else
    line = fmt::format("{}{} {}: {}", log.program, log.node.empty() ? "" : "[" + log.node + "]",
                       level_word(level), printable(text));
  state().logger.log(spdlog_level(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace drover
