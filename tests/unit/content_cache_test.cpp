#include "migrate/content_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "migrate/cache_server.h"

namespace drover {
namespace {

constexpr std::uint64_t kLimit = 64 << 20;

Bytes some_bytes(std::size_t size, unsigned seed = 1) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

ContentKey key_of(ByteView data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

Bytes read_all(const OwnedFd& file) {
  struct stat status;
  if (fstat(file.get(), &status) != 0) return {};
  Bytes bytes(static_cast<std::size_t>(status.st_size));
  EXPECT_EQ(pread(file.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

/// Neither this descriptor nor a mapping of it can change the content.
void expect_immutable(const OwnedFd& file) {
  EXPECT_EQ(fcntl(file.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_LT(pwrite(file.get(), "x", 1, 0), 0);
  EXPECT_NE(ftruncate(file.get(), 0), 0);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0), MAP_FAILED);
  void* const shared = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(shared, MAP_FAILED);
  EXPECT_NE(mprotect(shared, 4096, PROT_READ | PROT_WRITE), 0);
  munmap(shared, 4096);
  void* const code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.get(), 0);
  EXPECT_NE(code, MAP_FAILED) << "programs are mapped from here";
  munmap(code, 4096);
}

template <class Store>
Result<OwnedFd> put(Store&& fill, ByteView data) {
  DROVER_TRY(auto filling, fill());
  for (std::size_t at = 0; at < data.size(); at += 100'000) {
    const auto piece = data.subspan(at, std::min<std::size_t>(100'000, data.size() - at));
    DROVER_CHECK(filling->write(at, piece));
  }
  return filling->finish();
}

class ContentCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-cache-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    parent_ = name;
    directory_ = parent_ + "/cache";
  }
  void TearDown() override { std::filesystem::remove_all(parent_); }

  ContentCache open(std::uint64_t limit = kLimit) {
    auto cache = ContentCache::open(directory_, limit);
    EXPECT_TRUE(cache) << cache.error().message();
    return *std::move(cache);
  }
  static Result<OwnedFd> put_into(ContentCache& cache, ByteView data,
                                  const std::string& scope = kPublicScope) {
    return put([&] { return cache.fill(scope, key_of(data), data.size()); }, data);
  }
  static bool has(ContentCache& cache, ByteView data, const std::string& scope = kPublicScope) {
    auto found = cache.find(scope, key_of(data));
    EXPECT_TRUE(found) << found.error().message();
    if (!found || !*found) return false;
    EXPECT_TRUE(read_all(**found) == Bytes(data.begin(), data.end()));
    return true;
  }
  std::string path_of(ByteView data) const {
    return directory_ + "/" + kPublicScope + "/" + hexadecimal(key_of(data));
  }
  std::size_t files() const {
    std::size_t n = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_)) {
      n += entry.is_regular_file();
    }
    return n;
  }

  std::string parent_, directory_;
};

TEST_F(ContentCacheTest, gives_back_what_was_filled_as_an_immutable_file) {
  ContentCache cache = open();
  const Bytes data = some_bytes(1'234'567);
  EXPECT_FALSE(has(cache, data));
  auto file = put_into(cache, data);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(read_all(*file) == data);
  expect_immutable(*file);
  auto found = cache.find(kPublicScope, key_of(data));
  ASSERT_TRUE(found && *found);
  EXPECT_TRUE(read_all(**found) == data);
  expect_immutable(**found);
  EXPECT_EQ(cache.used_bytes(), data.size());
  struct stat status;
  ASSERT_EQ(stat(path_of(data).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0444u);
  ASSERT_EQ(stat(directory_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
}

TEST_F(ContentCacheTest, takes_pieces_in_any_order_and_zeros_for_what_is_not_written) {
  ContentCache cache = open();
  Bytes data = some_bytes(300'000);
  std::fill(data.begin() + 100'000, data.begin() + 200'000, std::byte{0});
  auto filling = cache.fill(kPublicScope, key_of(data), data.size());
  ASSERT_TRUE(filling);
  const ByteView all(data);
  ASSERT_TRUE((*filling)->write(200'000, all.subspan(200'000)));
  ASSERT_TRUE((*filling)->write(0, some_bytes(1000, 9)));
  ASSERT_TRUE((*filling)->write(0, all.first(100'000)));
  auto file = (*filling)->finish();
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(has(cache, data));

  const Bytes empty;
  EXPECT_TRUE(put_into(cache, empty));
  EXPECT_TRUE(has(cache, empty));
}

TEST_F(ContentCacheTest, never_shows_partial_or_false_content) {
  ContentCache cache = open();
  const Bytes data = some_bytes(500'000);
  {
    auto filling = cache.fill(kPublicScope, key_of(data), data.size());
    ASSERT_TRUE(filling);
    ASSERT_TRUE((*filling)->write(0, ByteView(data).first(400'000)));
    EXPECT_FALSE(has(cache, data)) << "while it is filled";
    auto file = (*filling)->finish();
    ASSERT_FALSE(file) << "a part is missing";
    EXPECT_EQ(file.error().code, EBADMSG);
  }
  auto wrong = put([&] { return cache.fill(kPublicScope, key_of(data), 100); }, some_bytes(100, 2));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(
      wrong.error().message().find("content does not match its key " + hexadecimal(key_of(data))),
      0u);
  {
    auto filling = cache.fill(kPublicScope, key_of(data), data.size());
    ASSERT_TRUE((*filling)->write(0, data));
    EXPECT_FALSE((*filling)->write(499'999, ByteView(data).first(2))) << "beyond the end";
    EXPECT_FALSE((*filling)->write(~0ull, ByteView(data).first(2)));
  }
  EXPECT_FALSE(has(cache, data)) << "dropped without finish";
  EXPECT_EQ(files(), 0u);
  EXPECT_EQ(cache.used_bytes(), 0u);
}

TEST_F(ContentCacheTest, nothing_can_be_written_after_finish) {
  ContentCache cache = open();
  const Bytes data = some_bytes(5000);
  auto filling = cache.fill(kPublicScope, key_of(data), data.size());
  ASSERT_TRUE((*filling)->write(0, data));
  ASSERT_TRUE((*filling)->finish());
  EXPECT_FALSE((*filling)->write(0, some_bytes(10, 2)));
  EXPECT_TRUE(has(cache, data));
}

TEST_F(ContentCacheTest, two_fillers_of_one_content_do_not_disturb_each_other) {
  ContentCache cache = open(), other_program = open();
  const Bytes data = some_bytes(300'000);
  auto first = cache.fill(kPublicScope, key_of(data), data.size());
  auto second = cache.fill(kPublicScope, key_of(data), data.size());
  auto third = other_program.fill(kPublicScope, key_of(data), data.size());
  for (auto* filling : {&first, &second, &third}) {
    ASSERT_TRUE(*filling);
    ASSERT_TRUE((**filling)->write(0, data));
  }
  auto file = (*first)->finish();
  ASSERT_TRUE(file);
  for (auto* filling : {&second, &third}) {
    auto another = (**filling)->finish();
    ASSERT_TRUE(another) << another.error().message();
    EXPECT_TRUE(read_all(*another) == data);
    EXPECT_TRUE(has(cache, data));
  }
  EXPECT_TRUE(read_all(*file) == data) << "the one that was replaced";
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(cache.used_bytes(), data.size());
}

TEST_F(ContentCacheTest, private_contents_are_found_in_their_scope_only) {
  ContentCache cache = open();
  const Bytes data = some_bytes(1000);
  const std::string alice = private_scope("n1", 1000), bob = private_scope("n2", 1000);
  ASSERT_TRUE(put_into(cache, data, alice));
  EXPECT_TRUE(has(cache, data, alice));
  EXPECT_FALSE(has(cache, data, bob));
  EXPECT_FALSE(has(cache, data));
  for (const char* bad : {"", ".", "..", "a/b", "../public", "/", ".filling-1", "a b"}) {
    EXPECT_FALSE(cache.find(bad, key_of(data))) << bad;
    EXPECT_FALSE(cache.fill(bad, key_of(data), 1)) << bad;
  }
}

TEST_F(ContentCacheTest, survives_a_restart_and_verifies_once_again) {
  const Bytes good = some_bytes(100'000), rotten = some_bytes(100'000, 2);
  {
    ContentCache cache = open();
    ASSERT_TRUE(put_into(cache, good));
    ASSERT_TRUE(put_into(cache, rotten));
  }
  // A bit that flips on the disk: neither size nor mode changes.
  const auto mtime = std::filesystem::last_write_time(path_of(rotten));
  chmod(path_of(rotten).c_str(), 0600);
  std::fstream(path_of(rotten), std::ios::in | std::ios::out | std::ios::binary).put('!');
  chmod(path_of(rotten).c_str(), 0444);
  std::filesystem::last_write_time(path_of(rotten), mtime);
  ContentCache cache = open();
  EXPECT_EQ(cache.used_bytes(), 200'000u);
  EXPECT_TRUE(has(cache, good));
  EXPECT_FALSE(has(cache, rotten));
  EXPECT_EQ(files(), 1u) << "the false one is removed";
  EXPECT_EQ(cache.used_bytes(), 100'000u);
  EXPECT_TRUE(put_into(cache, rotten));
  EXPECT_TRUE(has(cache, rotten));
}

TEST_F(ContentCacheTest, notices_files_changed_behind_its_back) {
  ContentCache cache = open();
  const std::function<void(const std::string&)> kChanges[] = {
      [](const std::string& path) {
        chmod(path.c_str(), 0600);
        std::ofstream(path, std::ios::in | std::ios::binary).put('!');
        chmod(path.c_str(), 0444);
      },
      [](const std::string& path) { chmod(path.c_str(), 0644); },
      [](const std::string& path) { EXPECT_EQ(truncate(path.c_str(), 10), 0); },
      [](const std::string& path) {
        std::filesystem::remove(path);
        std::filesystem::create_symlink("/etc/passwd", path);
      },
      [](const std::string& path) {
        std::filesystem::remove(path);
        mkfifo(path.c_str(), 0444);
      },
      [](const std::string& path) { std::filesystem::create_hard_link(path, path + "2"); },
      [](const std::string& path) { EXPECT_EQ(geteuid() ? 0 : chown(path.c_str(), 1234, 0), 0); },
  };
  for (const auto& change : kChanges) {
    const Bytes data = some_bytes(50'000, static_cast<unsigned>(&change - kChanges));
    ASSERT_TRUE(put_into(cache, data));
    ASSERT_TRUE(has(cache, data));
    change(path_of(data));
    auto found = cache.find(kPublicScope, key_of(data));
    if (geteuid() != 0 && &change == std::end(kChanges) - 1) continue;
    EXPECT_TRUE(!found || !*found) << "change " << &change - kChanges;
  }
}

TEST_F(ContentCacheTest, removes_what_was_used_longest_ago_to_stay_under_the_limit) {
  ContentCache cache = open(1'000'000);
  std::vector<Bytes> contents;
  for (unsigned i = 0; i < 5; ++i) contents.push_back(some_bytes(200'000, i));
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(12)); };
  for (const Bytes& data : contents) {
    ASSERT_TRUE(put_into(cache, data));
    pause();
  }
  auto mapped = cache.find(kPublicScope, key_of(contents[0]));
  pause();
  EXPECT_TRUE(has(cache, contents[1]));
  pause();
  ASSERT_TRUE(put_into(cache, some_bytes(300'000, 9)));
  EXPECT_LE(cache.used_bytes(), 1'000'000u);
  EXPECT_TRUE(has(cache, contents[0]));
  EXPECT_TRUE(has(cache, contents[1]));
  EXPECT_FALSE(has(cache, contents[2]));
  EXPECT_FALSE(has(cache, contents[3]));
  EXPECT_TRUE(has(cache, contents[4]));
  ASSERT_TRUE(put_into(cache, some_bytes(900'000, 11)));
  EXPECT_EQ(cache.used_bytes(), 900'000u);
  EXPECT_TRUE(read_all(**mapped) == contents[0]) << "removed but still in use";
}

TEST_F(ContentCacheTest, removes_nothing_for_what_is_not_whole_or_false) {
  ContentCache cache = open(1'000'000);
  std::vector<Bytes> contents;
  for (unsigned i = 0; i < 5; ++i) contents.push_back(some_bytes(200'000, i));
  for (const Bytes& data : contents) ASSERT_TRUE(put_into(cache, data));
  {
    auto unfinished = cache.fill(kPublicScope, key_of(some_bytes(600'000, 10)), 600'000);
    ASSERT_TRUE(unfinished);
    EXPECT_FALSE((*unfinished)->in_memory());
    auto too_much = cache.fill(kPublicScope, key_of(some_bytes(500'000, 11)), 500'000);
    ASSERT_TRUE(too_much);
    EXPECT_TRUE((*too_much)->in_memory()) << "the disk would fill up with what is promised";
  }
  const auto wrong = put([&] { return cache.fill(kPublicScope, key_of(contents[0]), 900'000); },
                         some_bytes(900'000, 12));
  EXPECT_FALSE(wrong);
  for (const Bytes& data : contents) EXPECT_TRUE(has(cache, data));
  EXPECT_EQ(cache.used_bytes(), 1'000'000u);
}

TEST_F(ContentCacheTest, what_exceeds_the_limit_is_held_in_memory) {
  ContentCache cache = open(1000);
  const Bytes data = some_bytes(200'000);
  auto filling = cache.fill(kPublicScope, key_of(data), data.size());
  ASSERT_TRUE(filling);
  EXPECT_TRUE((*filling)->in_memory());
  ASSERT_TRUE((*filling)->write(0, data));
  auto file = (*filling)->finish();
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(read_all(*file) == data);
  expect_immutable(*file);
  EXPECT_FALSE(has(cache, data));
  auto wrong =
      put([&] { return cache.fill(kPublicScope, key_of(data), 2000); }, some_bytes(2000, 3));
  EXPECT_FALSE(wrong);
}

TEST_F(ContentCacheTest, a_full_disk_does_not_fail_a_filling) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small file system";
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    EXPECT_EQ(unshare(CLONE_NEWNS), 0);
    EXPECT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    EXPECT_EQ(mkdir(directory_.c_str(), 0700), 0);
    EXPECT_EQ(mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=1m,mode=0700"), 0);
    ContentCache cache = open();
    const Bytes data = some_bytes(3'000'000);
    auto filling = cache.fill(kPublicScope, key_of(data), data.size());
    EXPECT_TRUE(filling && !(*filling)->in_memory());
    const ByteView all(data);
    EXPECT_TRUE((*filling)->write(2'500'000, all.subspan(2'500'000)));
    for (std::size_t at = 0; at < 2'500'000; at += 250'000) {
      EXPECT_TRUE((*filling)->write(at, all.subspan(at, 250'000))) << at;
    }
    EXPECT_TRUE((*filling)->in_memory());
    auto file = (*filling)->finish();
    EXPECT_TRUE(file && read_all(*file) == data);
    if (file) expect_immutable(*file);
    EXPECT_EQ(files(), 0u);
    const Bytes small = some_bytes(500'000, 4);
    EXPECT_TRUE(put_into(cache, small)) << "the room is there again";
    EXPECT_TRUE(has(cache, small));
    EXPECT_EQ(mount(nullptr, directory_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
    EXPECT_TRUE(has(cache, small)) << "read-only, so its use cannot be noted";
    EXPECT_TRUE(put_into(cache, some_bytes(1000, 5)));
    EXPECT_EQ(mount(nullptr, directory_.c_str(), nullptr, MS_REMOUNT | MS_NOEXEC, nullptr), 0);
    auto noexec = ContentCache::open(directory_, kLimit);
    EXPECT_TRUE(!noexec &&
                noexec.error().message() == "cache " + directory_ + ": is mounted noexec");
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure());
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(ContentCacheTest, removes_what_a_dead_program_left_unfinished_but_not_a_living_ones) {
  ContentCache living = open();
  const Bytes data = some_bytes(1000);
  auto filling = living.fill(kPublicScope, key_of(data), data.size());
  ASSERT_TRUE(filling);
  const pid_t child = fork();
  if (child == 0) {
    ContentCache cache = open();
    auto unfinished = cache.fill(kPublicScope, key_of(data), data.size());
    _exit(unfinished ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(files(), 2u);
  ContentCache cache = open();
  EXPECT_EQ(files(), 1u);
  ASSERT_TRUE((*filling)->write(0, data));
  EXPECT_TRUE((*filling)->finish());
  EXPECT_TRUE(has(cache, data));
}

TEST_F(ContentCacheTest, refuses_a_directory_that_others_control) {
  ASSERT_EQ(mkdir(directory_.c_str(), 0700), 0);
  ASSERT_EQ(chmod(directory_.c_str(), 0777), 0);
  EXPECT_FALSE(ContentCache::open(directory_, kLimit));
  if (geteuid() == 0) {
    ASSERT_EQ(chmod(directory_.c_str(), 0700), 0);
    ASSERT_EQ(chown(directory_.c_str(), 1234, 1234), 0);
    EXPECT_FALSE(ContentCache::open(directory_, kLimit));
  }
  EXPECT_FALSE(ContentCache::open("/dev/null", kLimit));
  EXPECT_FALSE(ContentCache::open(parent_ + "/no/such", kLimit));
  std::filesystem::create_directory_symlink(parent_, parent_ + "/link");
  EXPECT_FALSE(ContentCache::open(parent_ + "/link", kLimit));
}

TEST(MemoryStore, keeps_contents_without_a_cache) {
  MemoryStore store;
  const Bytes data = some_bytes(123'456);
  const ContentKey key = key_of(data);
  auto none = store.find(Sharing::kPublic, key);
  EXPECT_TRUE(none && !*none);
  auto file = put([&] { return store.fill(Sharing::kPublic, key, data.size()); }, data);
  ASSERT_TRUE(file) << file.error().message();
  expect_immutable(*file);
  auto found = store.find(Sharing::kPublic, key);
  ASSERT_TRUE(found && *found);
  EXPECT_TRUE(read_all(**found) == data);
  auto wrong = put([&] { return store.fill(Sharing::kPublic, key, 10); }, some_bytes(10, 2));
  EXPECT_FALSE(wrong);
}

/// The cache's keeper as a process of its own, as migrated starts it.
class CacheServerTest : public ContentCacheTest {
 protected:
  void start(std::uint64_t limit = kLimit) {
    auto ends = LocalSocket::pair();
    ASSERT_TRUE(ends);
    keeper_ = fork();
    if (keeper_ == 0) {
      ends->first.release().reset();
      CacheServer server(open(limit));
      const Status status = server.run(std::move(ends->second));
      _exit(status ? 0 : 1);
    }
    control_.emplace(std::move(ends->first));
  }
  LocalSocket connect(const std::string& scope) {
    auto ends = LocalSocket::pair();
    EXPECT_TRUE(ends);
    const Status status = introduce_client(*control_, scope, std::move(ends->second));
    EXPECT_TRUE(status) << status.error().message();
    return std::move(ends->first);
  }
  static Result<OwnedFd> put_through(ContentStore& store, Sharing sharing, ByteView data) {
    return put([&] { return store.fill(sharing, key_of(data), data.size()); }, data);
  }
  static bool finds(ContentStore& store, Sharing sharing, ByteView data) {
    auto found = store.find(sharing, key_of(data));
    EXPECT_TRUE(found) << found.error().message();
    if (!found || !*found) return false;
    expect_immutable(**found);
    EXPECT_TRUE(read_all(**found) == Bytes(data.begin(), data.end()));
    return true;
  }
  int stop() {
    control_.reset();
    int status = -1;
    if (keeper_ > 0) waitpid(keeper_, &status, 0);
    keeper_ = 0;
    return status;
  }
  void TearDown() override {
    stop();
    ContentCacheTest::TearDown();
  }

  pid_t keeper_ = 0;
  std::optional<LocalSocket> control_;
};

TEST_F(CacheServerTest, what_one_guest_fills_another_finds_if_it_may) {
  start();
  CacheClient alice(connect(private_scope("n1", 1000)));
  CacheClient again(connect(private_scope("n1", 1000)));
  CacheClient bob(connect(private_scope("n2", 1000)));
  const Bytes secret = some_bytes(200'000), open = some_bytes(200'000, 2);
  EXPECT_FALSE(finds(alice, Sharing::kPrivate, secret));
  auto file = put_through(alice, Sharing::kPrivate, secret);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(read_all(*file) == secret);
  EXPECT_LT(fcntl(file->get(), F_GET_SEALS), F_SEAL_WRITE) << "the cache's file, not our memory";
  ASSERT_TRUE(put_through(alice, Sharing::kPublic, open));
  EXPECT_TRUE(finds(alice, Sharing::kPrivate, secret));
  EXPECT_TRUE(finds(again, Sharing::kPrivate, secret));
  EXPECT_FALSE(finds(bob, Sharing::kPrivate, secret));
  EXPECT_FALSE(finds(bob, Sharing::kPublic, secret));
  EXPECT_TRUE(finds(bob, Sharing::kPublic, open));
  EXPECT_FALSE(alice.trouble() || again.trouble() || bob.trouble());
  EXPECT_EQ(stop(), 0);
}

TEST_F(CacheServerTest, a_keeper_that_does_not_read_holds_nobody_up) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  const auto began = std::chrono::steady_clock::now();
  Status introduced;
  for (int i = 0; i < 100'000 && introduced; ++i) {
    auto guest = LocalSocket::pair();
    ASSERT_TRUE(guest);
    introduced = introduce_client(ends->first, private_scope("n1", 1), std::move(guest->second));
  }
  EXPECT_FALSE(introduced);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

TEST_F(CacheServerTest, a_guest_cannot_put_in_false_or_changeable_content) {
  start();
  LocalSocket raw = connect(private_scope("n1", 1));
  const Bytes data = some_bytes(100'000);
  const auto offer = [&](const OwnedFd& file) {
    WireWriter request;
    request.number<std::uint8_t>(2);
    request.number(Sharing::kPublic);
    request.record(key_of(data));
    const int fd = file.get();
    EXPECT_TRUE(raw.send(request.data(), std::span(&fd, 1)));
    auto answer = raw.receive(std::chrono::seconds(5));
    if (!answer || !*answer) return std::string("closed");
    WireReader in((*answer)->data);
    if (in.number<std::uint8_t>() != 2) return std::string("accepted");
    (void)in.number<std::int32_t>();
    return in.text();
  };
  auto false_bytes = make_memory_file(data.size());
  auto sealed = seal_memory_file(*std::move(false_bytes));
  EXPECT_EQ(offer(*sealed), "content does not match its key " + hexadecimal(key_of(data)));
  auto changeable = make_memory_file(data.size());
  EXPECT_EQ(offer(*changeable), "not a sealed memory file");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const OwnedFd reader(ends[0]), writer(ends[1]);
  EXPECT_EQ(offer(reader), "not a sealed memory file");
  auto enormous = seal_memory_file(*make_memory_file(1ull << 40));
  EXPECT_EQ(offer(*enormous), "content is larger than the cache");
  CacheClient other(connect(private_scope("n2", 1)));
  EXPECT_FALSE(finds(other, Sharing::kPublic, data));
  auto refused =
      put([&] { return other.fill(Sharing::kPublic, key_of(data), 10); }, some_bytes(10, 3));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBADMSG);
  EXPECT_FALSE(finds(other, Sharing::kPublic, data));
}

TEST_F(CacheServerTest, a_guest_that_breaks_the_protocol_harms_only_itself) {
  start();
  CacheClient good(connect(private_scope("n1", 1)));
  for (std::size_t size = 1; size < 40; ++size) {
    LocalSocket bad = connect(private_scope("n1", 2));
    EXPECT_TRUE(bad.send(some_bytes(size)));
    auto answer = bad.receive(std::chrono::seconds(5));
    EXPECT_FALSE(answer && *answer) << "dropped";
  }
  LocalSocket flooding = connect(private_scope("n1", 3));
  WireWriter request;
  request.number<std::uint8_t>(1);
  request.number(Sharing::kPublic);
  request.record(ContentKey{});
  for (int i = 0; i < 2000; ++i) {
    if (!flooding.send(request.data(), {}, std::chrono::milliseconds(1000))) break;
  }
  const Bytes data = some_bytes(1000);
  EXPECT_TRUE(put_through(good, Sharing::kPrivate, data));
  EXPECT_TRUE(finds(good, Sharing::kPrivate, data));
  EXPECT_FALSE(good.trouble()) << good.trouble()->message();
}

TEST_F(CacheServerTest, without_the_cache_contents_stay_in_memory) {
  start();
  CacheClient client(connect(private_scope("n1", 1)));
  EXPECT_EQ(stop(), 0);
  const Bytes data = some_bytes(100'000);
  EXPECT_FALSE(finds(client, Sharing::kPrivate, data));
  ASSERT_TRUE(client.trouble());
  ASSERT_TRUE(put_through(client, Sharing::kPrivate, data));
  EXPECT_TRUE(finds(client, Sharing::kPrivate, data));
}

TEST_F(CacheServerTest, a_guest_puts_in_its_share_and_no_more) {
  constexpr std::uint64_t kCache = 1'000'000;
  start(kCache);
  CacheClient greedy(connect(private_scope("n1", 1)));
  CacheClient other(connect(private_scope("n2", 2)));
  const Bytes first = some_bytes(200'000), second = some_bytes(200'000, 2);
  ASSERT_TRUE(put_through(greedy, Sharing::kPublic, first));
  EXPECT_FALSE(greedy.trouble());
  ASSERT_TRUE(put_through(greedy, Sharing::kPublic, second)) << "it has it for itself";
  ASSERT_TRUE(greedy.trouble());
  EXPECT_EQ(greedy.trouble()->code, EDQUOT);
  EXPECT_FALSE(finds(other, Sharing::kPublic, second));
  EXPECT_TRUE(finds(greedy, Sharing::kPublic, second));
  ASSERT_TRUE(put_through(other, Sharing::kPublic, second));
  EXPECT_FALSE(other.trouble());
  EXPECT_TRUE(finds(other, Sharing::kPublic, first));
}

TEST_F(CacheServerTest, many_small_contents_count_as_the_blocks_that_they_take) {
  start(1'000'000);
  CacheClient greedy(connect(private_scope("n1", 1)));
  unsigned put_in = 0;
  while (put_in < 1000 && !greedy.trouble())
    ASSERT_TRUE(put_through(greedy, Sharing::kPrivate, some_bytes(1, ++put_in + 1000)));
  EXPECT_LT(put_in, 100u);
}

TEST_F(CacheServerTest, a_full_cache_leaves_contents_in_memory_and_says_so) {
  start(50'000);
  CacheClient client(connect(private_scope("n1", 1)));
  const Bytes data = some_bytes(100'000), small = some_bytes(900, 2);
  ASSERT_TRUE(put_through(client, Sharing::kPrivate, data));
  ASSERT_TRUE(client.trouble());
  EXPECT_EQ(client.trouble()->message(), "cache: content is larger than the cache: File too large");
  EXPECT_TRUE(finds(client, Sharing::kPrivate, data));
  EXPECT_TRUE(put_through(client, Sharing::kPrivate, small)) << "the cache is still in use";
  CacheClient other(connect(private_scope("n1", 1)));
  EXPECT_TRUE(finds(other, Sharing::kPrivate, small));
  EXPECT_FALSE(finds(other, Sharing::kPrivate, data));
}

TEST_F(CacheServerTest, takes_little_time) {
  start();
  CacheClient client(connect(private_scope("n1", 1)));
  const Bytes data = some_bytes(16 << 20);
  auto since = [start = std::chrono::steady_clock::now()]() mutable {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(start, now)).count();
  };
  ASSERT_TRUE(put_through(client, Sharing::kPublic, data));
  const double filled = since();
  for (int i = 0; i < 1000; ++i) (void)client.find(Sharing::kPublic, key_of(ByteView()));
  const double absent = since();
  const ContentKey key = key_of(data);
  (void)since();
  for (int i = 0; i < 1000; ++i) (void)client.find(Sharing::kPublic, key);
  std::printf("fill of 16 MB %.1f ms; find %.1f us; find of nothing %.1f us\n", filled, since(),
              absent);
}

}  // namespace
}  // namespace drover
