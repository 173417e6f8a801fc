#include "migrate/jobs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <set>

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// A process table of the test's own.
class JobsTest : public ::testing::Test {
 protected:
  ProcessStatus& process(pid_t pid, pid_t parent, uid_t uid = 1000) {
    ProcessStatus& p = table_[pid];
    p.pid = pid;
    p.parent = parent;
    p.uids = {uid, uid, uid, uid};
    p.gids = {uid, uid, uid, uid};
    p.start_ticks = next_ticks_++;
    p.state = 'S';
    return p;
  }
  JobRegistry registry() {
    return JobRegistry("n1", [this](pid_t pid) -> Result<ProcessStatus> {
      const auto found = table_.find(pid);
      if (found == table_.end()) return Error{ESRCH, "process"};
      return found->second;
    });
  }

  std::map<pid_t, ProcessStatus> table_;
  std::uint64_t next_ticks_ = 100;
};

TEST_F(JobsTest, ARegisteredProcessIsAJobAtHome) {
  process(10, 1);
  JobRegistry jobs = registry();
  const auto job = jobs.add(10, {.never_automatic = true, .memory_bytes = 5});
  ASSERT_TRUE(job);
  EXPECT_TRUE(valid_job_id((*job)->id));
  EXPECT_EQ((*job)->uid, 1000u);
  EXPECT_EQ((*job)->where, "n1");
  EXPECT_EQ((*job)->state, JobState::kHome);
  EXPECT_TRUE((*job)->options.never_automatic);
  EXPECT_EQ(jobs.find((*job)->id), *job);
}

TEST_F(JobsTest, ADescendantIsUnderItsAncestorsDisciplineAndGetsARecordOfItsOwn) {
  process(10, 1);
  process(11, 10);
  process(12, 11);
  JobRegistry jobs = registry();
  const auto root = jobs.add(10, {.never_automatic = true, .memory_bytes = 0});
  ASSERT_TRUE(root);
  const auto discipline = jobs.discipline_of(12);
  ASSERT_TRUE(discipline);
  EXPECT_EQ((*discipline)->id, (*root)->id);
  EXPECT_EQ(jobs.jobs().size(), 1u) << "asking makes no record";

  const auto child = jobs.member(12);
  ASSERT_TRUE(child);
  EXPECT_NE((*child)->id, (*root)->id);
  EXPECT_EQ((*child)->pid, 12);
  EXPECT_TRUE((*child)->options.never_automatic);
  EXPECT_EQ(jobs.jobs().size(), 2u);
  EXPECT_EQ(jobs.member(12).operator->()->get(), child->get());
}

TEST_F(JobsTest, AStrangerIsNoJob) {
  process(10, 1);
  process(20, 1);
  process(21, 20);
  JobRegistry jobs = registry();
  ASSERT_TRUE(jobs.add(10, {}));
  EXPECT_FALSE(jobs.member(21));
  EXPECT_FALSE(jobs.member(1));
  EXPECT_FALSE(jobs.member(99));
  EXPECT_EQ(jobs.jobs().size(), 1u);
}

TEST_F(JobsTest, ADescendantOfAnotherUserIsNoJob) {
  process(10, 1);
  process(11, 10, 1001);
  process(12, 11, 1000);  // back again: what is between does not count
  JobRegistry jobs = registry();
  ASSERT_TRUE(jobs.add(10, {}));
  EXPECT_FALSE(jobs.member(11));
  EXPECT_TRUE(jobs.member(12));
}

TEST_F(JobsTest, AReusedPidIsNobody) {
  process(10, 1);
  JobRegistry jobs = registry();
  const auto old = jobs.add(10, {});
  ASSERT_TRUE(old);
  process(10, 1);  // another process, started later
  EXPECT_FALSE(jobs.member(10));
  process(11, 10);
  EXPECT_FALSE(jobs.member(11)) << "nor are its children";

  const auto fresh = jobs.add(10, {});
  ASSERT_TRUE(fresh);
  EXPECT_NE((*fresh)->id, (*old)->id);
  jobs.end((*old)->id, {});
  EXPECT_EQ(jobs.member(10).operator->()->get(), fresh->get())
      << "the end of the old one leaves the new one alone";
}

TEST_F(JobsTest, AParentChainWithALoopEnds) {
  process(10, 1);
  process(20, 21);
  process(21, 20);
  JobRegistry jobs = registry();
  ASSERT_TRUE(jobs.add(10, {}));
  EXPECT_FALSE(jobs.member(20));
}

TEST_F(JobsTest, AProcessThatRegistersAgainStaysTheSameJob) {
  process(10, 1);
  JobRegistry jobs = registry();
  const auto first = jobs.add(10, {});
  const auto second = jobs.add(10, {.never_automatic = true, .memory_bytes = 0});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*first, *second);
  EXPECT_TRUE((*first)->options.never_automatic);
}

TEST_F(JobsTest, EndedJobsAreRememberedForAWhile) {
  process(10, 1);
  process(11, 1);
  JobRegistry jobs = registry();
  const auto ended = jobs.add(10, {});
  const auto lost = jobs.add(11, {});
  ASSERT_TRUE(ended && lost);
  (*lost)->state = JobState::kLost;
  const std::chrono::steady_clock::time_point start{seconds(1000)};
  jobs.end((*ended)->id, start);
  jobs.end((*lost)->id, start + seconds(1));
  jobs.end((*lost)->id, start + seconds(1));
  EXPECT_TRUE(jobs.jobs().empty());
  ASSERT_EQ(jobs.ended(start + seconds(2)).size(), 2u);
  EXPECT_EQ(jobs.ended(start + seconds(2))[0]->state, JobState::kEnded);
  EXPECT_EQ(jobs.ended(start + seconds(2))[1]->state, JobState::kLost);
  EXPECT_EQ(jobs.ended(start + JobRegistry::kRemembered + milliseconds(500)).size(), 1u);
  EXPECT_TRUE(jobs.ended(start + minutes(60)).empty());
}

TEST_F(JobsTest, CountersAddUpOverDeputies) {
  Job job;
  const std::chrono::steady_clock::time_point start{seconds(1000)};
  JobCounters first;
  first.calls[1] = {100, 0};
  first.away_ns = 10;
  job.count(first, start);
  EXPECT_EQ(job.calls_per_second, 0) << "one figure is no rate";
  first.calls[1].served = 300;
  first.calls[59] = {0, 1};
  job.count(first, start + seconds(2));
  EXPECT_DOUBLE_EQ(job.calls_per_second, 100);
  job.settle_counters();
  EXPECT_EQ(job.calls_per_second, 0);

  JobCounters second;
  second.calls[1] = {5, 0};
  second.failed_moves = 2;
  job.count(second, start + seconds(9));
  const JobCounters sum = job.counters();
  EXPECT_EQ(sum.calls.at(1).served, 305u);
  EXPECT_EQ(sum.calls.at(59).forced_home, 1u);
  EXPECT_EQ(sum.failed_moves, 2u);
  EXPECT_EQ(sum.away_ns, 10u);
}

TEST_F(JobsTest, WhatComesAllAtOnceAfterARestartIsNoRate) {
  Job job;
  const std::chrono::steady_clock::time_point start{seconds(1000)};
  JobCounters counters;
  for (std::uint64_t i = 0; i < 60; ++i) {
    counters.calls[1] = {100 * i, 0};
    job.count(counters, start + std::chrono::microseconds(i));
  }
  EXPECT_EQ(job.calls_per_second, 0);
  EXPECT_EQ(job.counters().served(), 5900u);
  counters.calls[1] = {6000, 0};
  job.count(counters, start + seconds(2));
  EXPECT_DOUBLE_EQ(job.calls_per_second, 3000) << "since the first";
}

TEST_F(JobsTest, JobsAreWrittenDownUntilTheyEnd) {
  process(10, 1);
  JobRegistry jobs = registry();
  std::map<std::string, std::string> written;  // state by id
  jobs.keep_records({[&](const Job& job) { written[job.id] = job_state_name(job.state); },
                     [&](const Job& job) { written.erase(job.id); }});
  const auto job = jobs.add(10, {});
  ASSERT_TRUE(job);
  EXPECT_EQ(written, (std::map<std::string, std::string>{{(*job)->id, "home"}}));
  (*job)->state = JobState::kAway;
  jobs.changed(**job);
  EXPECT_EQ(written[(*job)->id], "away");
  jobs.end((*job)->id, {});
  EXPECT_TRUE(written.empty());
  jobs.changed(**job);
  EXPECT_TRUE(written.empty()) << "what is said of it later is of no use to anybody";
}

TEST_F(JobsTest, AJobOfTheLifeBeforeIsTheSameJob) {
  const ProcessStatus root = process(10, 1);
  process(11, 10);
  Job before;
  before.id = new_job_id();
  before.pid = 10;
  before.start_ticks = root.start_ticks;
  before.uid = 1000;
  before.options.never_automatic = true;
  JobRegistry jobs = registry();
  const auto job = jobs.restore(before);
  EXPECT_EQ(jobs.find(before.id), job);
  EXPECT_EQ(*jobs.member(10), job);
  EXPECT_TRUE((*jobs.member(11))->options.never_automatic);
  process(10, 1);
  EXPECT_FALSE(jobs.member(10)) << "a reused pid is still nobody";
}

TEST(JobIds, AreThirtyTwoHexadecimalDigits) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const std::string id = new_job_id();
    EXPECT_TRUE(valid_job_id(id)) << id;
    EXPECT_TRUE(seen.insert(id).second);
  }
  EXPECT_FALSE(valid_job_id(""));
  EXPECT_FALSE(valid_job_id(std::string(31, 'a')));
  EXPECT_FALSE(valid_job_id(std::string(33, 'a')));
  EXPECT_FALSE(valid_job_id(std::string(31, 'a') + "G"));
  EXPECT_FALSE(valid_job_id(std::string(31, 'a') + "/"));
}

constexpr char kStatus[] =
    "Name:\tsleep\nState:\tS (sleeping)\nTracerPid:\t0\nUid:\t1000\t1000\t1000\t1000\n"
    "Gid:\t100\t100\t100\t100\nNSpid:\t42\nVmRSS:\t  2048 kB\nVmSwap:\t 4 kB\nThreads:\t1\n"
    "CapPrm:\t0000000000000000\nSeccomp:\t0\n";

TEST(ProcessStatusFile, IsRead) {
  ProcessStatus p;
  ASSERT_TRUE(parse_process_status(kStatus, p));
  EXPECT_EQ(p.uids[3], 1000u);
  EXPECT_EQ(p.gids[0], 100u);
  EXPECT_EQ(p.rss_bytes, 2048u << 10);
  EXPECT_EQ(p.swap_bytes, 4u << 10);
  EXPECT_FALSE(p.nested);
  EXPECT_TRUE(objections_to_moving(p, false, false).empty());
}

TEST(ProcessStatusFile, MalformedIsAnError) {
  ProcessStatus p;
  EXPECT_FALSE(parse_process_status("", p));
  EXPECT_FALSE(parse_process_status("Uid:\t1\t2\t3\n", p));
  EXPECT_FALSE(parse_process_status("Uid:\t1\t1\t1\tx\n", p));
  EXPECT_FALSE(parse_process_status(std::string(kStatus) + "Threads:\tmany\n", p));
}

TEST(ProcessStatFile, ACommandMayHoldAnything) {
  ProcessStatus p;
  ASSERT_TRUE(
      parse_process_stat("42 (a) b (c) R 7 42 42 0 -1 4194560 1 2 3 4 50 25 0 0 20 0 1 0 "
                         "12345 1000 200",
                         p));
  EXPECT_EQ(p.command, "a) b (c");
  EXPECT_EQ(p.state, 'R');
  EXPECT_EQ(p.parent, 7);
  EXPECT_EQ(p.start_ticks, 12345u);
  EXPECT_EQ(p.cpu_ns, 75 * (1'000'000'000u / static_cast<unsigned>(::sysconf(_SC_CLK_TCK))));
  EXPECT_FALSE(parse_process_stat("42 (a) R", p));
  EXPECT_FALSE(parse_process_stat("42 )(", p));
  EXPECT_FALSE(parse_process_stat("", p));
}

TEST(Objections, EachIsSaidInWords) {
  const auto only = [](auto change, bool root_allowed = false) {
    ProcessStatus p;
    p.state = 'S';
    p.uids = p.gids = {1000, 1000, 1000, 1000};
    change(p);
    const auto reasons = objections_to_moving(p, root_allowed, false);
    return reasons.size() == 1 ? reasons[0] : "not one: " + std::to_string(reasons.size());
  };
  const auto root = [](ProcessStatus& p) {
    p.uids = p.gids = {0, 0, 0, 0};
    p.permitted_capabilities = ~0UL;
  };
  EXPECT_EQ(only([](ProcessStatus& p) { p.threads = 3; }), "not one: 0");
  EXPECT_EQ(only([](ProcessStatus& p) { p.state = 'Z'; }), "has ended");
  EXPECT_EQ(only([](ProcessStatus& p) { p.state = 'Z', p.threads = 2; }),
            "has lost its first thread");
  EXPECT_EQ(only([](ProcessStatus& p) { p.uids[1] = 0; }),
            "runs with the rights of a setuid or setgid program");
  EXPECT_EQ(only([](ProcessStatus& p) { p.gids[2] = 5; }),
            "runs with the rights of a setuid or setgid program");
  EXPECT_EQ(only(root), "is a job of root, which this node does not allow (allow-root-jobs)");
  EXPECT_EQ(only(root, true), "not one: 0");
  EXPECT_EQ(only([](ProcessStatus& p) { p.permitted_capabilities = 0x80; }),
            "has capabilities (0x80)");
  EXPECT_EQ(only([](ProcessStatus& p) { p.dumpable = false; }),
            "is not dumpable: it protects its memory");
  EXPECT_EQ(only([](ProcessStatus& p) { p.confinement = "lsm-profile"; }),
            "is confined by the profile lsm-profile");
  EXPECT_EQ(only([](ProcessStatus& p) { p.tracer = 77; }), "is traced by process 77");
  EXPECT_EQ(only([](ProcessStatus& p) { p.seccomp = 2; }), "has a seccomp filter of its own");
  EXPECT_EQ(only([](ProcessStatus& p) { p.nested = true; }), "runs in a pid namespace of its own");
}

TEST(ReadProcess, TellsTheTruthAboutThisOne) {
  const auto self = read_process(::getpid());
  ASSERT_TRUE(self) << self.error().message();
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_EQ(self->uids[0], ::getuid());
  EXPECT_GT(self->start_ticks, 0u);
  EXPECT_GT(self->rss_bytes, 0u);
  EXPECT_FALSE(read_process(0x7ffffff0));
}

}  // namespace
}  // namespace drover
