#include "lieq/container/output_files.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "lieq/base/files.h"
#include "lieq/io/json.h"
#include "lieq/io/unique_names.h"

namespace lieq {
namespace {

constexpr std::uint64_t kShardBytes = 5'000'000'000;

std::string_view ModuleOf(const TensorSpec& spec) {
  return std::string_view(spec.name).substr(0, spec.name.rfind('.'));
}

}  // namespace

std::uint64_t DataBytes(std::span<const TensorSpec> specs) {
  std::uint64_t all = 0;
  for (const TensorSpec& spec : specs) {
    std::uint64_t bytes = ItemSize(spec.dtype);
    for (const std::int64_t extent : spec.shape) bytes *= static_cast<std::uint64_t>(extent);
    all += bytes;
  }
  return all;
}

OutputFiles SplitOutput(std::vector<TensorSpec> specs,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<std::string_view> names;
  for (const TensorSpec& spec : specs) names.push_back(spec.name);
  RequireUniqueNames(std::move(names), "the model to be written");
  OutputFiles output;
  std::uint64_t in_shard = 0;
  for (std::size_t first = 0; first < specs.size();) {
    std::size_t end = first;
    std::uint64_t bytes = 0;  // of the module
    for (; end < specs.size() && ModuleOf(specs[end]) == ModuleOf(specs[first]); ++end) {
      bytes += DataBytes({&specs[end], 1});
    }
    if (output.files.empty() || in_shard + bytes > kShardBytes) {
      output.files.emplace_back();
      in_shard = 0;
    }
    in_shard += bytes;
    std::vector<TensorSpec>& shard = output.files.back().specs;
    shard.insert(shard.end(), specs.begin() + static_cast<std::ptrdiff_t>(first),
                 specs.begin() + static_cast<std::ptrdiff_t>(end));
    first = end;
  }
  const std::size_t count = output.files.size();
  for (std::size_t i = 0; i < count; ++i) {
    OutputFiles::File& file = output.files[i];
    file.name = count == 1 ? "model.safetensors"
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
    file.bytes = TensorWriter::FileBytes(file.specs, metadata);
    output.bytes += file.bytes;
  }
  return output;
}

void WriteIndex(const OutputFiles& files, const std::filesystem::path& folder) {
  if (files.files.size() < 2) return;
  std::uint64_t total = 0;
  Record map = Record::object();
  for (const OutputFiles::File& file : files.files) {
    for (const TensorSpec& spec : file.specs) {
      map[spec.name] = file.name;
      total += DataBytes({&spec, 1});
    }
  }
  const Record index{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
  WriteFileAtomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace lieq
