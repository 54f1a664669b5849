// Where a model comes from, as far as its folder says: for model cards and records.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"

namespace lieq {

/// Empty where nothing says it.
struct Origin {
  std::string name;  // "Qwen/Qwen3-0.6B" where the place or config.json knows it, else the folder's
  std::string license, license_name, license_link;  // as the Hub's model cards have them
  std::vector<std::string> languages;
  std::string pipeline_tag;
  friend bool operator==(const Origin&, const Origin&) = default;
};

/// The name: of the place in a hub cache (models--ORG--NAME), else `_name_or_path` of config.json
/// where it is a hub name, else the folder's or file's; of a quantized model what its card says
/// that it was made from. The rest: the front matter of README.md; where it names no licence, that
/// of a known LICENSE file. An export or a result says again what it was made from.
[[nodiscard]] Origin OriginOf(const ModelFolder& model);

[[nodiscard]] Record ToJson(const Origin& origin);
/// What is there of it; values of another type count as absent.
[[nodiscard]] Origin OriginFromJson(const Record& json);

/// "ORG/NAME" of letters, digits, '.', '_' and '-': what the Hub calls a model by.
[[nodiscard]] bool IsHubName(std::string_view text);

/// The lieq.json of what the model was read from; empty where there is none, or none of ours.
[[nodiscard]] Record RecordOf(const ModelFolder& model);

}  // namespace lieq
