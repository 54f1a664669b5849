// The weight files of a model folder that is about to be written: which tensor goes into which.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lieq/io/tensor_file.h"

namespace lieq {

/// Of the tensors' values, without a header.
[[nodiscard]] std::uint64_t DataBytes(std::span<const TensorSpec> specs);

/// Tensors in order, split into shards of at most 5 GB of data; those of one module stay together.
struct OutputFiles {
  struct File {
    std::string name;  // "model.safetensors", "model-00001-of-00002.safetensors"
    std::vector<TensorSpec> specs;
    std::uint64_t bytes = 0;  // of the finished file
  };
  std::vector<File> files;
  std::uint64_t bytes = 0;  // of all files together
};

/// metadata: what the headers will hold, for the sizes. Throws Error for two tensors of one name.
[[nodiscard]] OutputFiles SplitOutput(std::vector<TensorSpec> specs,
                                      const std::map<std::string, std::string>& metadata);

/// model.safetensors.index.json; nothing where there is one file. Throws Error.
void WriteIndex(const OutputFiles& files, const std::filesystem::path& folder);

}  // namespace lieq
