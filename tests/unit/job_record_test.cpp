#include "migrate/job_record.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

Job away_job() {
  Job job;
  job.id = new_job_id();
  job.pid = 42;
  job.start_ticks = 12345;
  job.uid = 1000;
  job.gid = 100;
  job.command = "numbers";
  job.options = {true, 5 << 20, OnLoss::kHold, true};
  job.state = JobState::kAway;
  job.where = "n2";
  job.epoch = 7;
  job.body_epoch = 6;
  job.moves = 4;
  job.moves_before = 3;
  job.last_refusal = "cannot move to n3: is full";
  job.start_on = "n2";
  job.away_rss_bytes = 1 << 20;
  job.before.calls[1] = {100, 1};
  job.before.away_ns = 10;
  job.now.calls[1] = {5, 0};
  job.now.failed_moves = 2;
  job.now.remote_cpu_ns = 20;
  job.deputy = ProgramIdentity{77, 12400, 99, 1234567890123, {3, 4}};
  return job;
}

TEST(JobRecord, SaysAllThatIsToBeKnownAgain) {
  const Job job = away_job();
  const auto again = decode_job(encode_job(job));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->id, job.id);
  EXPECT_TRUE(again->options.keep_memory);
  EXPECT_EQ(again->pid, 42);
  EXPECT_EQ(again->start_ticks, 12345u);
  EXPECT_EQ(again->uid, 1000u);
  EXPECT_EQ(again->gid, 100u);
  EXPECT_EQ(again->command, "numbers");
  EXPECT_TRUE(again->options.never_automatic);
  EXPECT_EQ(again->options.memory_bytes, 5u << 20);
  EXPECT_EQ(again->state, JobState::kAway);
  EXPECT_EQ(again->where, "n2");
  EXPECT_EQ(again->epoch, 7u);
  EXPECT_EQ(again->body_epoch, 6u);
  EXPECT_EQ(again->moves, 4u);
  EXPECT_EQ(again->moves_before, 3u);
  EXPECT_EQ(again->last_refusal, job.last_refusal);
  EXPECT_EQ(again->start_on, "n2");
  EXPECT_EQ(again->away_rss_bytes, 1u << 20);
  const JobCounters counters = again->counters();
  EXPECT_EQ(counters.calls.at(1).served, 105u);
  EXPECT_EQ(counters.calls.at(1).forced_home, 1u);
  EXPECT_EQ(counters.failed_moves, 2u);
  EXPECT_EQ(counters.away_ns, 10u);
  EXPECT_EQ(counters.remote_cpu_ns, 20u);
  ASSERT_TRUE(again->deputy);
  EXPECT_EQ(again->deputy->pid, 77);
  EXPECT_EQ(again->deputy->start_ticks, 12400u);
  EXPECT_EQ(again->deputy->socket_inode, 99u);
  EXPECT_EQ(again->deputy->socket_cookie, 1234567890123u);
  EXPECT_EQ(again->deputy->speaks, (ProtocolRange{3, 4}));
}

TEST(JobRecord, OfTheFirstVersionIsOfADeputyThatSpeaksThat) {
  record::Job record;
  record.ParseFromString(encode_job(away_job()));
  record.mutable_deputy()->clear_oldest_protocol();
  record.mutable_deputy()->clear_newest_protocol();
  const auto again = decode_job(record.SerializeAsString());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->deputy->speaks, (ProtocolRange{1, 1}));
}

TEST(JobRecord, OfAJobWithoutADeputyHasNone) {
  Job job = away_job();
  job.deputy.reset();
  const auto again = decode_job(encode_job(job));
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->deputy);
}

TEST(JobRecord, ThatIsNotOneIsRefused) {
  EXPECT_FALSE(decode_job(""));
  EXPECT_FALSE(decode_job("rubbish"));
  const auto broken = [](auto change) {
    record::Job record;
    record.ParseFromString(encode_job(away_job()));
    change(record);
    return record.SerializeAsString();
  };
  EXPECT_TRUE(decode_job(broken([](record::Job&) {})));
  EXPECT_FALSE(decode_job(broken([](record::Job& r) { r.set_id("../job"); })));
  EXPECT_FALSE(decode_job(broken([](record::Job& r) { r.set_pid(0); })));
  EXPECT_FALSE(decode_job(broken([](record::Job& r) { r.set_state(99); })));
  EXPECT_FALSE(decode_job(broken([](record::Job& r) { r.set_where("n 2"); })));
}

}  // namespace
}  // namespace drover
