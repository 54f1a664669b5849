#include "lieq/container/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& path : SidecarFiles(folder)) names.push_back(path.filename().string());
  return names;
}

TEST(SidecarFiles, AreTokenizerTemplateAndLicenceByName) {
  const TempFolder folder;
  for (const char* name :
       {"tokenizer.json", "vocab.json", "LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md",
        "chat_template.jinja", "generation_config.json", "README.md", "config.json",
        "model.safetensors", "model.safetensors.index.json", "lieq.json", "tokenizer.json.bak"}) {
    WriteText(folder / name, "x");
  }

  EXPECT_THAT(Names(folder.path()), ElementsAre("LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md",
                                                "chat_template.jinja", "generation_config.json",
                                                "tokenizer.json", "vocab.json"));
}

TEST(SidecarFiles, MayBeLinksAsInTheHubsCacheButNotFolders) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "snapshot" / "NOTICE");
  WriteText(folder / "blob", "x");
  std::filesystem::create_symlink("../blob", folder / "snapshot" / "tokenizer.json");
  std::filesystem::create_symlink("../gone", folder / "snapshot" / "merges.txt");

  EXPECT_THAT(Names(folder / "snapshot"), ElementsAre("tokenizer.json"));
}

TEST(SidecarFiles, NeedAFolder) {
  EXPECT_THAT(ErrorOf([] { return SidecarFiles("/no/such/folder"); }),
              HasSubstr("/no/such/folder"));
}

}  // namespace
}  // namespace lieq
