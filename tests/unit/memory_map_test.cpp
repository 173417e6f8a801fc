#include "common/process/memory_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>

namespace drover {
namespace {

const char kSmaps[] =
    "55d0c0a00000-55d0c0a02000 r-xp 00001000 fe:00 247498                     /usr/bin/a b (x)\n"
    "Size:                  8 kB\n"
    "AnonHugePages:         0 kB\n"
    "ProtectionKey:         3\n"
    "VmFlags: rd ex mr mw me \n"
    "55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0                          [heap]\n"
    "Size:                132 kB\n"
    "VmFlags: rd wr mr mw me ac hg sd zz \n"
    "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n"
    "VmFlags: rd wr mr mw me gd ac \n"
    "7ffd00100000-7ffd00102000 r-xp 00000000 00:00 0                          [vdso]\n"
    "VmFlags: rd ex mr mw me de\n";

TEST(MemoryMap, reads_ranges_permissions_files_and_flags_of_smaps) {
  auto areas = parse_smaps(kSmaps);
  ASSERT_TRUE(areas) << areas.error().message();
  ASSERT_EQ(areas->size(), 4u);
  const MemoryArea& text = (*areas)[0];
  EXPECT_EQ(text.range,
            (ForeignRange{ForeignAddress(0x55d0c0a00000), ForeignAddress(0x55d0c0a02000)}));
  EXPECT_EQ(text.protection, PROT_READ | PROT_EXEC);
  EXPECT_FALSE(text.shared);
  EXPECT_EQ(text.file_offset, 0x1000u);
  EXPECT_EQ(text.device, makedev(0xfe, 0));
  EXPECT_EQ(text.inode, 247498u);
  EXPECT_EQ(text.name, "/usr/bin/a b (x)");
  EXPECT_EQ(text.protection_key, 3);
  EXPECT_TRUE(text.file_backed());
  EXPECT_FALSE(text.anonymous());
  EXPECT_TRUE(text.flags.may_write);
  EXPECT_FALSE(text.flags.account);

  const MemoryArea& heap = (*areas)[1];
  EXPECT_TRUE(heap.anonymous());
  EXPECT_TRUE(heap.flags.huge);
  EXPECT_EQ(heap.flags.unknown, "zz");
  EXPECT_TRUE((*areas)[2].flags.grows_down);
  EXPECT_TRUE((*areas)[3].special());
  EXPECT_FALSE((*areas)[3].anonymous());
}

TEST(MemoryMap, undoes_escaped_newlines_and_the_deleted_suffix) {
  auto areas = parse_maps(
      "1000-2000 rw-s 00000000 00:05 17                         /tmp/two\\012lines \\012 "
      "(deleted)\n"
      "2000-3000 ---p 00000000 00:00 0\n"
      "3000-4000 rw-p 00000000 00:00 0                          [anon:x (deleted)]\n"
      "4000-5000 r--p 00000000 00:00 0                          [vvar_vclock]\n");
  ASSERT_TRUE(areas) << areas.error().message();
  EXPECT_EQ((*areas)[0].name, "/tmp/two\nlines \n");
  EXPECT_TRUE((*areas)[0].deleted);
  EXPECT_TRUE((*areas)[0].shared);
  EXPECT_EQ((*areas)[1].name, "");
  EXPECT_EQ((*areas)[1].protection, PROT_NONE);
  EXPECT_EQ((*areas)[2].name, "[anon:x (deleted)]");
  EXPECT_FALSE((*areas)[2].deleted);
  EXPECT_TRUE((*areas)[3].special());
}

TEST(MemoryMap, a_file_cannot_pass_for_an_area_of_the_kernel) {
  auto areas = parse_maps("1000-2000 r-xp 00000000 00:05 17                   [vdso]\n");
  ASSERT_TRUE(areas);
  EXPECT_FALSE((*areas)[0].special());
}

TEST(MemoryMap, refuses_what_is_not_a_map) {
  for (const char* bad :
       {"hello\n", "2000-1000 rw-p 0 00:00 0\n", "1000-1000 rw-p 0 00:00 0\n", "1000-2000 rw-\n",
        "1000-2000 rw-z 0 00:00 0\n", "1000-2000 qw-p 0 00:00 0\n", "1000-2000 rw-p 0 00:00 x\n",
        "1000-2000 rw-p 0 00:00 5x /a\n", "1000-\n", "1000\n", "\n",
        "10000000000000000-20000000000000000 rw-p 0 00:00 0\n",
        "1000-3000 rw-p 0 00:00 0\n2000-4000 rw-p 0 00:00 0\n"}) {
    EXPECT_FALSE(parse_maps(bad)) << bad;
    EXPECT_FALSE(parse_smaps(bad)) << bad;
  }
  EXPECT_FALSE(parse_smaps("Size: 1 kB\n"));
  EXPECT_FALSE(parse_smaps("1000-2000 rw-p 0 00:00 0\nSize: 4 kB\n"));
}

TEST(MemoryMap, survives_any_cut_and_any_changed_byte) {
  const std::string whole = kSmaps;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    (void)parse_smaps(std::string_view(whole).substr(0, i));
    (void)parse_smaps(std::string_view(whole).substr(i));
    for (const char c : {'\0', '\n', ' ', ':', '-', '\xff', '9'}) {
      std::string changed = whole;
      changed[i] = c;
      (void)parse_smaps(changed);
      (void)parse_maps(changed);
    }
  }
}

const MemoryArea* area_at(const std::vector<MemoryArea>& areas, const void* address) {
  for (const MemoryArea& area : areas) {
    if (area.range.contains(ForeignAddress(reinterpret_cast<std::uint64_t>(address)))) return &area;
  }
  return nullptr;
}

TEST(MemoryMap, agrees_with_what_this_process_has_mapped) {
  char path[] = "/tmp/drover map\nXXXXXX";
  const OwnedFd file(mkstemp(path));
  ASSERT_TRUE(file);
  ASSERT_EQ(ftruncate(file.get(), 8192), 0);
  void* const mapped = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 4096);
  unlink(path);
  void* const advised = mmap(nullptr, 8192, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  madvise(advised, 8192, MADV_DONTFORK);
  madvise(advised, 8192, MADV_WIPEONFORK);

  auto smaps = read_proc_file("/proc/self/smaps");
  ASSERT_TRUE(smaps) << smaps.error().message();
  auto areas = parse_smaps(*smaps);
  ASSERT_TRUE(areas) << areas.error().message();

  struct stat status;
  fstat(file.get(), &status);
  const MemoryArea* const of_file = area_at(*areas, mapped);
  ASSERT_NE(of_file, nullptr);
  EXPECT_EQ(of_file->name, path);
  EXPECT_TRUE(of_file->deleted);
  EXPECT_EQ(of_file->inode, status.st_ino);
  EXPECT_EQ(of_file->file_offset, 4096u);

  const MemoryArea* const of_advice = area_at(*areas, advised);
  ASSERT_NE(of_advice, nullptr);
  EXPECT_TRUE(of_advice->flags.dont_fork && of_advice->flags.wipe_on_fork &&
              of_advice->flags.no_reserve);
  EXPECT_FALSE(of_advice->flags.grows_down);

  int specials = 0;
  for (const MemoryArea& area : *areas) {
    EXPECT_EQ(area.flags.unknown, "") << area.name;
    specials += area.special();
    EXPECT_EQ(area.flags.grows_down, area.name == "[stack]");
  }
  EXPECT_GE(specials, 2);
  munmap(mapped, 4096);
  munmap(advised, 8192);
}

TEST(MemoryMap, reads_a_map_of_many_areas_whole) {
  constexpr std::size_t kAreas = 6000;
  char* const base = static_cast<char*>(
      mmap(nullptr, kAreas * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (std::size_t i = 0; i < kAreas; i += 2) mprotect(base + i * 4096, 4096, PROT_NONE);
  const OwnedFd self(open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
  auto text = read_proc_file(self, "maps");
  ASSERT_TRUE(text) << text.error().message();
  auto areas = parse_maps(*text);
  ASSERT_TRUE(areas) << areas.error().message();
  std::size_t inside = 0;
  const ForeignAddress start(reinterpret_cast<std::uint64_t>(base));
  for (const MemoryArea& area : *areas) {
    inside += area.range.overlaps({start, start + kAreas * 4096});
  }
  EXPECT_GE(inside, kAreas - 1);
  munmap(base, kAreas * 4096);
}

TEST(MemoryMap, names_the_file_that_it_cannot_read) {
  auto text = read_proc_file("/proc/self/no-such-file");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().message(), "open /proc/self/no-such-file: No such file or directory");
}

}  // namespace
}  // namespace drover
