#include "lieq/base/files.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lieq/base/hash.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

std::size_t FilesIn(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  {
    AtomicFile file(folder / "a");
    file.Write("half");
  }
  EXPECT_EQ(FilesIn(folder.path()), 0u);
}

TEST(AtomicFile, ReplacesTheOldFileInOneStep) {
  const TempFolder folder;
  WriteFileAtomically(folder / "a", "old");
  AtomicFile file(folder / "a");
  file.Write("new");
  EXPECT_EQ(ReadText(folder / "a"), "old");

  file.Commit();

  EXPECT_EQ(ReadText(folder / "a"), "new");
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

TEST(AtomicFile, SaysWhyItCannotWrite) {
  const TempFolder folder;
  EXPECT_NE(ErrorOf([&] { AtomicFile file(folder / "no/such/folder/a"); }).find("cannot write"),
            std::string::npos);
}

TEST(FileMap, SeesTheFileAgainAfterItsPagesWereDropped) {
  const TempFolder folder;
  std::string content(100'000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31);
  WriteText(folder / "a", content);
  const FileMap map(folder / "a");

  map.Drop(map.bytes().subspan(5, 90'000));

  EXPECT_TRUE(std::ranges::equal(map.bytes(), std::as_bytes(std::span(content))));
  EXPECT_EQ(HashFile(folder / "a"), HashText(content));
}

TEST(FileMap, RefusesFoldersAndMissingFiles) {
  const TempFolder folder;
  EXPECT_NE(ErrorOf([&] { FileMap map(folder.path()); }).find("regular file"), std::string::npos);
  EXPECT_NE(ErrorOf([&] { FileMap map(folder / "none"); }).find("cannot open"), std::string::npos);
}

TEST(ReadText, RefusesWhatIsTooLarge) {
  const TempFolder folder;
  WriteText(folder / "a", "12345");
  EXPECT_NE(ErrorOf([&] { return ReadText(folder / "a", 4); }).find("at most 4 bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace lieq
