#include "lieq/container/checkpoint_files.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include "lieq/base/error.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, 10> kNames{"tokenizer.json",
                                                  "tokenizer_config.json",
                                                  "special_tokens_map.json",
                                                  "added_tokens.json",
                                                  "vocab.json",
                                                  "merges.txt",
                                                  "tokenizer.model",
                                                  "generation_config.json",
                                                  "chat_template.jinja",
                                                  "chat_template.json"};
constexpr std::array<std::string_view, 4> kPrefixes{"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"};

}  // namespace

bool IsSidecar(std::string_view name) noexcept {
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::vector<std::filesystem::path> SidecarFiles(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code broken;  // a link to nothing is not a file
    if (IsSidecar(entry->path().filename().string()) && entry->is_regular_file(broken)) {
      files.push_back(entry->path());
    }
  }
  if (error) {
    throw Error({.what = "cannot list the folder: " + error.message(), .where = folder.string()});
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace lieq
