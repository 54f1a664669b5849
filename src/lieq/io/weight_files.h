// What lies in a model folder beside, or in place of, the weights that are looked for.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/tensor_file.h"

namespace lieq {

inline constexpr std::string_view kSingleFile = "model.safetensors";
inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";

/// Names of regular files in the folder (symbolic links followed), sorted.
[[nodiscard]] std::vector<std::string> FileNames(const std::filesystem::path& folder);

/// A folder with neither of the two: throws Error that says what is there and what to do with it.
[[noreturn]] void RefuseWithoutWeights(const std::filesystem::path& folder);

/// What to do about a shard that the index names and the folder lacks, by what is there instead.
[[nodiscard]] std::string MissingShardHint(const std::filesystem::path& folder);

/// Throws Error unless the single file and the shards hold the same tensors, byte for byte: engines
/// part over which of them they load.
void RequireSameTensors(const TensorFile& single, const TensorFile& shards);

}  // namespace lieq
