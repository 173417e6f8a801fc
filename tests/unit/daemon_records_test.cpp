#include "migrate/daemon_records.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace drover {
namespace {

class RecordsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  RecordStore store(const std::string& boot = "this boot") {
    auto opened = RecordStore::open(records(), boot);
    EXPECT_TRUE(opened) << opened.error().message();
    return *std::move(opened);
  }
  std::string records() const { return directory_ + "/records"; }

  std::string directory_ = "/tmp/records_test.XXXXXX";
};

using Records = std::map<std::string, std::string>;

TEST_F(RecordsTest, AreThereForWhoComesNext) {
  ASSERT_TRUE(store().put("one", "1"));
  ASSERT_TRUE(store().put("two", "2"));
  ASSERT_TRUE(store().put("one", "3"));
  EXPECT_EQ(store().all(), (Records{{"one", "3"}, {"two", "2"}}));
  store().remove("one");
  EXPECT_EQ(store().all(), (Records{{"two", "2"}}));
}

TEST_F(RecordsTest, AreClosedToOthers) {
  ASSERT_TRUE(store().put("one", "1"));
  struct stat status {};
  ASSERT_EQ(::stat(records().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
  ASSERT_EQ(::stat((records() + "/one").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(RecordsTest, DoNotSurviveABoot) {
  ASSERT_TRUE(store().put("one", "1"));
  EXPECT_TRUE(store("another boot").all().empty());
  EXPECT_TRUE(store().all().empty()) << "nor are they there again later";
}

TEST_F(RecordsTest, HaveNamesThatLeadNowhereElse) {
  const RecordStore here = store();
  for (const char* name : {"", ".", "..", "../one", "a/b", "boot", "one.part", "One"})
    EXPECT_FALSE(here.put(name, "1")) << name;
  EXPECT_FALSE(here.put("large", std::string(RecordStore::kLargest + 1, 'x')));
  EXPECT_TRUE(here.all().empty());
}

TEST_F(RecordsTest, WhatIsNoneIsLeftOutAndRemoved) {
  const RecordStore here = store();
  ASSERT_TRUE(here.put("one", "1"));
  // One that was being written when its writer died; one that others may have written.
  std::ofstream(records() + "/one.abcdef") << "half";
  std::ofstream(records() + "/open") << "forged";
  ::chmod((records() + "/one.abcdef").c_str(), 0600);
  ::chmod((records() + "/open").c_str(), 0666);
  ASSERT_EQ(::symlink("/etc/passwd", (records() + "/link").c_str()), 0);
  EXPECT_EQ(here.all(), (Records{{"one", "1"}}));
  for (const char* name : {"/one.abcdef", "/open", "/link"})
    EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(records() + name)));
}

TEST_F(RecordsTest, AreNotTakenFromADirectoryThatOthersCanEnter) {
  static_cast<void>(store());
  ::chmod(records().c_str(), 0755);
  EXPECT_FALSE(RecordStore::open(records(), "this boot"));
}

TEST_F(RecordsTest, OneMigratedAtATimeWorksInADirectory) {
  auto claim = claim_run_directory(directory_);
  ASSERT_TRUE(claim);
  const std::string holder = std::to_string(::getpid());
  const auto other = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto second = claim_run_directory(directory_);
      const bool named =
          !second && second.error().message().ends_with("already, process " + holder);
      ::_exit(second ? 0 : named ? 1 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(other(), 1) << "it is refused, and told by whom";
  claim->reset();
  EXPECT_EQ(other(), 0);
  EXPECT_TRUE(claim_run_directory(directory_)) << "what ended with it holds nothing";
}

}  // namespace
}  // namespace drover
