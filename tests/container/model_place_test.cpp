#include "lieq/container/model_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string OpenError(const fs::path& path) {
  return ErrorOf([&] { return OpenModel(path); });
}

/// A hub cache's repository with snapshots of these names.
fs::path HubCache(const TempFolder& folder, const std::vector<std::string>& snapshots) {
  const fs::path repository = folder / "models--owner--name";
  fs::create_directories(repository / "refs");
  for (const std::string& name : snapshots) {
    fs::create_directories(repository / "snapshots");
    MakeTinyModel(repository / "snapshots" / name, {.layers = 1});
  }
  return repository;
}

TEST(HubCache, IsAnsweredWithItsSnapshot) {
  const TempFolder folder;
  const fs::path repository = HubCache(folder, {"abc"});
  const std::string snapshot = (repository / "snapshots" / "abc").string();
  for (const fs::path& given : {repository, repository / "", repository / "snapshots"}) {
    EXPECT_THAT(OpenError(given), AllOf(HasSubstr("hub's cache"), HasSubstr("give " + snapshot)));
  }
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("models--owner--name"));
  EXPECT_THAT(OpenError(snapshot), IsEmpty());
}

TEST(HubCache, IsAnsweredWithTheSnapshotOfTheMainBranch) {
  const TempFolder folder;
  const fs::path repository = HubCache(folder, {"abc", "def"});
  EXPECT_THAT(OpenError(repository), AllOf(HasSubstr("abc, def"), HasSubstr("give one of them")));
  WriteText(repository / "refs" / "main", "def\n");
  EXPECT_THAT(OpenError(repository),
              HasSubstr("give " + (repository / "snapshots" / "def").string()));
  WriteText(repository / "refs" / "main", "gone");
  EXPECT_THAT(OpenError(repository), HasSubstr("abc, def"));
}

TEST(HubCache, SaysWhereNoSnapshotIsWhole) {
  const TempFolder folder;
  const fs::path repository = HubCache(folder, {});
  fs::create_directories(repository / "snapshots" / "abc");
  EXPECT_THAT(OpenError(repository),
              AllOf(HasSubstr("without a whole model"), HasSubstr("hf download")));
}

TEST(FolderOfFiles, IsAnsweredWithTheFileToGive) {
  const TempFolder folder;
  WriteText(folder / "a b.gguf", "x");
  EXPECT_THAT(OpenError(folder.path()),
              AllOf(HasSubstr("holds a GGUF file"), HasSubstr("give '"), HasSubstr("a b.gguf'")));
  WriteText(folder / "c.gguf", "x");
  EXPECT_THAT(OpenError(folder.path()),
              AllOf(HasSubstr("a folder of GGUF files"), HasSubstr("a b.gguf, c.gguf")));
}

TEST(FolderOfModels, IsAnsweredWithTheFolderToGive) {
  const TempFolder folder;
  MakeTinyModel(folder / "one", {.layers = 1});
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("give " + (folder / "one").string()));
  MakeTinyModel(folder / "two", {.layers = 1});
  EXPECT_THAT(OpenError(folder.path()),
              AllOf(HasSubstr("a folder of model folders"), HasSubstr("one, two")));
  EXPECT_THAT(OpenError(folder / "one" / "model.safetensors"),
              AllOf(HasSubstr("not a folder"), HasSubstr("give " + (folder / "one").string())));
}

TEST(Adapter, IsAnsweredWithHowToMergeIt) {
  const TempFolder folder;
  for (const bool config : {false, true}) {
    const fs::path adapter = folder / (config ? "with" : "without");
    fs::create_directories(adapter);
    WriteText(adapter / "adapter_config.json", R"({"base_model_name_or_path": "owner/base"})");
    WriteText(adapter / "adapter_model.safetensors", "x");
    if (config) WriteText(adapter / "config.json", R"({"model_type": "llama"})");
    EXPECT_THAT(OpenError(adapter),
                AllOf(HasSubstr("an adapter (LoRA), not a model"), HasSubstr("merge_and_unload"),
                      HasSubstr("from_pretrained('owner/base'"), HasSubstr(adapter.string())));
    WriteText(adapter / "adapter_config.json", "no JSON");
    EXPECT_THAT(OpenError(adapter), HasSubstr("from_pretrained('BASE'"));
  }
}

TEST(Adapter, IsNotedBesideWeights) {
  const TempFolder folder;
  MakeTinyModel(folder.path(), {.layers = 1});
  EXPECT_THAT(OpenModel(folder.path()).notes, IsEmpty());
  WriteText(folder / "adapter_config.json", "{}");
  EXPECT_THAT(OpenModel(folder.path()).notes, Contains(HasSubstr("is not applied")));
}

TEST(LfsPointer, IsNamedAsConfig) {
  const TempFolder folder;
  MakeTinyModel(folder.path(), {.layers = 1});
  WriteText(folder / "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  EXPECT_THAT(OpenError(folder.path()),
              AllOf(HasSubstr("config.json: a Git LFS pointer"), HasSubstr("git lfs pull")));
  WriteText(folder / "m.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  EXPECT_THAT(OpenError(folder / "m.gguf"),
              AllOf(HasSubstr("m.gguf: a Git LFS pointer"), HasSubstr("git lfs pull")));
}

TEST(NoModel, HasNoHintOfAnother) {
  const TempFolder folder;
  EXPECT_THAT(OpenError(folder.path()),
              AllOf(HasSubstr("config.json is missing"), Not(HasSubstr("give "))));
}

}  // namespace
}  // namespace lieq
