#include "migrate/job_record.h"

#include "common/names.h"

namespace drover {
namespace {

record::Counters to_record(const JobCounters& counters) {
  record::Counters out;
  for (const auto& [number, call] : counters.calls) {
    record::CallCount& count = *out.add_calls();
    count.set_number(number);
    count.set_served(call.served);
    count.set_forced_home(call.forced_home);
  }
  out.set_failed_moves(counters.failed_moves);
  out.set_away_ns(counters.away_ns);
  out.set_remote_cpu_ns(counters.remote_cpu_ns);
  return out;
}

JobCounters from_record(const record::Counters& in) {
  JobCounters counters;
  for (const record::CallCount& count : in.calls())
    counters.calls[count.number()] = {count.served(), count.forced_home()};
  counters.failed_moves = in.failed_moves();
  counters.away_ns = in.away_ns();
  counters.remote_cpu_ns = in.remote_cpu_ns();
  return counters;
}

bool is_state(std::uint32_t state) { return state <= static_cast<std::uint32_t>(JobState::kEnded); }

}  // namespace

std::string encode_job(const Job& job) {
  record::Job out;
  out.set_id(job.id);
  out.set_pid(job.pid);
  out.set_start_ticks(job.start_ticks);
  out.set_uid(job.uid);
  out.set_gid(job.gid);
  out.set_command(job.command);
  out.set_never_automatic(job.options.never_automatic);
  out.set_on_loss(static_cast<std::uint32_t>(job.options.on_loss));
  out.set_memory_bytes(job.options.memory_bytes);
  out.set_keep_memory(job.options.keep_memory);
  out.set_start_on(job.start_on);
  out.set_state(static_cast<std::uint32_t>(job.state));
  out.set_where(job.where);
  out.set_epoch(job.epoch);
  out.set_body_epoch(job.body_epoch);
  out.set_moves(job.moves);
  out.set_moves_before(job.moves_before);
  out.set_last_refusal(job.last_refusal);
  out.set_away_rss_bytes(job.away_rss_bytes);
  *out.mutable_before() = to_record(job.before);
  *out.mutable_now() = to_record(job.now);
  if (job.deputy) *out.mutable_deputy() = to_record(*job.deputy);
  return out.SerializeAsString();
}

Result<Job> decode_job(std::string_view text) {
  record::Job in;
  if (!in.ParseFromArray(text.data(), static_cast<int>(text.size())) || !valid_job_id(in.id()) ||
      in.pid() <= 0 || !is_state(in.state()) || !valid_name(in.where()))
    return refusal("not the record of a job");
  Job job;
  job.id = in.id();
  job.pid = in.pid();
  job.start_ticks = in.start_ticks();
  job.uid = in.uid();
  job.gid = in.gid();
  job.command = in.command();
  const bool ends = in.on_loss() == static_cast<std::uint32_t>(OnLoss::kKill);
  job.options = {in.never_automatic(), in.memory_bytes(), ends ? OnLoss::kKill : OnLoss::kHold,
                 in.keep_memory()};
  job.start_on = in.start_on();
  job.state = static_cast<JobState>(in.state());
  job.where = in.where();
  job.epoch = in.epoch();
  job.body_epoch = in.body_epoch();
  job.moves = in.moves();
  job.moves_before = in.moves_before();
  job.last_refusal = in.last_refusal();
  job.away_rss_bytes = in.away_rss_bytes();
  job.before = from_record(in.before());
  job.now = from_record(in.now());
  if (in.has_deputy()) job.deputy = from_record(in.deputy());
  return job;
}

record::Program to_record(const ProgramIdentity& identity) {
  record::Program out;
  out.set_pid(identity.pid);
  out.set_start_ticks(identity.start_ticks);
  out.set_socket_inode(identity.socket_inode);
  out.set_socket_cookie(identity.socket_cookie);
  out.set_oldest_protocol(identity.speaks.oldest);
  out.set_newest_protocol(identity.speaks.newest);
  return out;
}

ProgramIdentity from_record(const record::Program& program) {
  return {program.pid(),
          program.start_ticks(),
          program.socket_inode(),
          program.socket_cookie(),
          {protocol_said(program.oldest_protocol()), protocol_said(program.newest_protocol())}};
}

}  // namespace drover
