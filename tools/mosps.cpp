// mosps: the jobs that started on this node, the guests that it hosts, and in words why a
// process cannot move.
#include <fmt/format.h>
#include <pwd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config.h"
#include "migrate/local_client.h"
#include "remote-syscall/syscall_table.h"

namespace drover {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

std::string user_name(std::uint32_t uid) {
  const passwd* entry = ::getpwuid(uid);
  return entry ? entry->pw_name : std::to_string(uid);
}

std::string seconds(std::uint64_t ns) { return fmt::format("{:.1f}", ns / 1e9); }

std::string size(std::uint64_t bytes) {
  if (bytes < (1U << 20)) return fmt::format("{}K", bytes >> 10);
  if (bytes < (1UL << 30)) return fmt::format("{:.1f}M", bytes / 1048576.0);
  return fmt::format("{:.1f}G", bytes / 1073741824.0);
}

/// What a program calls itself may hold anything: nothing of it reaches the terminal raw.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out;
}

/// Columns as wide as their widest cell; the last one is left ragged.
void print_table(const std::vector<Row>& rows, std::size_t first_text_columns) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i + 1 == row.size())
        line += row[i];
      else if (i > 0 && i <= first_text_columns)
        line += fmt::format("{:<{}}  ", row[i], widths[i]);
      else
        line += fmt::format("{:>{}}  ", row[i], widths[i]);
    }
    std::puts(line.c_str());
  }
}

Json to_json(const local::Job& job) {
  Json calls = Json::object();
  for (const local::CallCount& call : job.calls())
    calls[std::string(syscall_name(call.number()))] = {{"served", call.served()},
                                                       {"forced_home", call.forced_home()}};
  return {{"job", job.job()},
          {"pid", job.pid()},
          {"uid", job.uid()},
          {"user", user_name(job.uid())},
          {"home", job.home()},
          {"where", job.where()},
          {"state", job.state()},
          {"moves", job.moves()},
          {"failed_moves", job.failed_moves()},
          {"epoch", job.epoch()},
          {"cpu_home_s", job.cpu_home_ns() / 1e9},
          {"cpu_away_s", job.cpu_away_ns() / 1e9},
          {"away_s", job.away_ns() / 1e9},
          {"calls_per_second", job.calls_per_second()},
          {"rss_bytes", job.rss_bytes()},
          {"command", job.command()},
          {"never_automatic", job.never_automatic()},
          {"last_refusal", job.last_refusal()},
          {"wait_status", job.wait_status()},
          {"keep_memory", job.keep_memory()},
          {"kept", job.kept()},
          {"kept_why_not", job.kept_why_not()},
          {"calls", calls}};
}

Json to_json(const local::Guest& guest) {
  return {{"job", guest.job()},
          {"pid", guest.pid()},
          {"home", guest.home()},
          {"uid", guest.uid()},
          {"state", guest.state()},
          {"epoch", guest.epoch()},
          {"cpu_s", guest.cpu_ns() / 1e9},
          {"rss_bytes", guest.rss_bytes()},
          {"supervisor", guest.supervisor()}};
}

void print_json(const Json& json) {
  // What is not UTF-8 in a command is replaced, not an error.
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

Result<std::vector<local::Job>> ask_jobs(LocalClient& client, const local::Request& request) {
  DROVER_TRY(const auto replies, client.ask(request));
  std::vector<local::Job> jobs;
  for (const local::Reply& reply : replies)
    jobs.insert(jobs.end(), reply.jobs().jobs().begin(), reply.jobs().jobs().end());
  return jobs;
}

Status show_jobs(LocalClient& client, const Options& options) {
  local::Request request;
  request.mutable_list_jobs()->set_ended(options.yes("ended"));
  DROVER_TRY(const auto jobs, ask_jobs(client, request));
  if (options.yes("json")) {
    Json list = Json::array();
    for (const local::Job& job : jobs) list.push_back(to_json(job));
    print_json(list);
    return {};
  }
  std::vector<Row> rows = {{"PID", "USER", "HOME", "WHERE", "STATE", "NMIGS", "CPU-HOME",
                            "CPU-AWAY", "CALLS/S", "RSS", "COMMAND"}};
  for (const local::Job& job : jobs)
    rows.push_back({std::to_string(job.pid()), user_name(job.uid()), job.home(), job.where(),
                    job.state(), std::to_string(job.moves()), seconds(job.cpu_home_ns()),
                    seconds(job.cpu_away_ns()), fmt::format("{:.0f}", job.calls_per_second()),
                    size(job.rss_bytes()), printable(job.command())});
  print_table(rows, 4);
  return {};
}

Status show_guests(LocalClient& client, const Options& options) {
  local::Request request;
  request.mutable_list_guests();
  DROVER_TRY(const auto replies, client.ask(request));
  Json list = Json::array();
  std::vector<Row> rows = {{"PID", "USER", "HOME", "STATE", "CPU", "RSS", "JOB"}};
  for (const local::Reply& reply : replies)
    for (const local::Guest& guest : reply.guests().guests()) {
      list.push_back(to_json(guest));
      rows.push_back({std::to_string(guest.pid()), fmt::format("{}@{}", guest.uid(), guest.home()),
                      guest.home(), guest.state(), seconds(guest.cpu_ns()), size(guest.rss_bytes()),
                      guest.job()});
    }
  if (options.yes("json"))
    print_json(list);
  else
    print_table(rows, 3);
  return {};
}

Status show_why(LocalClient& client, const Options& options) {
  local::Request request;
  const int pid = static_cast<int>(options.number("why"));
  request.mutable_job_details()->set_pid(pid);
  const auto found = ask_jobs(client, request);
  if (!found) return found.error().within(std::to_string(pid));
  const local::Job& job = found->at(0);
  if (options.yes("json")) {
    Json json = to_json(job);
    json["reasons"] = std::vector<std::string>(job.reasons().begin(), job.reasons().end());
    json["can_move"] = job.reasons().empty();
    print_json(json);
    return {};
  }
  std::printf("%d: %s on %s, %s\n", pid, printable(job.command()).c_str(), job.where().c_str(),
              job.state().c_str());
  if (job.reasons().empty()) std::printf("%d: can move\n", pid);
  for (const std::string& reason : job.reasons())
    std::printf("%d: cannot move: %s\n", pid, reason.c_str());
  if (job.kept())
    std::printf("%d: if %s is lost it goes on at home from where it left\n", pid,
                job.where().c_str());
  if (!job.kept_why_not().empty())
    std::printf("%d: if %s is lost it ends: %s\n", pid, job.where().c_str(),
                printable(job.kept_why_not()).c_str());
  if (!job.last_refusal().empty())
    std::printf("%d: last refusal: %s\n", pid, printable(job.last_refusal()).c_str());
  return {};
}

int run(int argc, char** argv) {
  Options options("mosps", "[options]", "Lists the jobs of this node, or its guests.");
  options.add({"json", 0, OptionKind::kSwitch, "", "", "print JSON"})
      .add({"why", 0, OptionKind::kNumber, "PID", "", "say whether PID can move, and why not", 1,
            1U << 22})
      .add({"guests", 'g', OptionKind::kSwitch, "", "", "list the guests that run here"})
      .add({"ended", 0, OptionKind::kSwitch, "", "", "list the jobs that ended lately"})
      .use("run-dir")
      .operands(0, 0);
  options.parse_or_exit(argc, argv);
  if (options.given("why") + options.yes("guests") + options.yes("ended") > 1) {
    std::fprintf(stderr, "mosps: --why, --guests and --ended: only one of them\n");
    return 2;
  }

  auto client = LocalClient::connect(options.text("run-dir"));
  Status shown = client ? options.given("why")    ? show_why(*client, options)
                          : options.yes("guests") ? show_guests(*client, options)
                                                  : show_jobs(*client, options)
                        : Status(client.error());
  if (shown && std::fflush(stdout) != 0) shown = errno_error("stdout");
  if (shown) return 0;
  std::fprintf(stderr, "mosps: %s\n", shown.error().message().c_str());
  return 1;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::run(argc, argv); }
