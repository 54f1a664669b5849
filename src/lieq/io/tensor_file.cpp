#include "lieq/io/tensor_file.h"

#include <algorithm>
#include <set>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/types.h"
#include "lieq/io/gathered_file.h"
#include "lieq/io/json.h"
#include "lieq/io/printable.h"
#include "lieq/io/tensor_header.h"
#include "lieq/io/unique_names.h"
#include "lieq/io/weight_files.h"

namespace lieq {
namespace {

constexpr std::uint64_t kMostIndexBytes = std::uint64_t{1} << 26;

bool Exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

struct ShardIndex {
  std::map<std::string, std::string> shard_of;  // by tensor
  std::set<std::string> shards;
};

ShardIndex ReadIndex(const std::filesystem::path& path) {
  const Json json = ParseJson(ReadText(path, kMostIndexBytes), path.string());
  const JsonObject map = JsonObject(json, path.string()).Object("weight_map");
  ShardIndex index;
  for (const auto& [name, shard] : map.value().items()) {
    const std::string where = path.string() + ": tensor '" + Printable(name) + "'";
    if (!shard.is_string()) {
      throw Error({.what = "wrong type of value", .where = where, .expected = "a file name"});
    }
    const auto& file = shard.get_ref<const std::string&>();
    // A name with a slash could lead out of the folder.
    if (!file.ends_with(".safetensors") || file.find_first_of("/\\") != std::string::npos ||
        file.find('\0') != std::string::npos) {
      throw Error({.what = "not the name of a shard",
                   .where = where,
                   .expected = "a .safetensors file in the same folder",
                   .found = Printable(file)});
    }
    index.shards.insert(file);
    index.shard_of.emplace(name, file);
  }
  if (index.shards.empty()) {
    throw Error({.what = "the index lists no tensor", .where = path.string()});
  }
  return index;
}

[[noreturn]] void Elsewhere(const std::filesystem::path& index, const std::string& tensor,
                            std::string expected, std::string found) {
  throw Error({.what = "index and shards disagree",
               .where = index.string() + ": tensor '" + Printable(tensor) + "'",
               .expected = std::move(expected),
               .found = std::move(found)});
}

}  // namespace

std::string Describe(DType dtype, std::span<const std::int64_t> shape) {
  std::string text = std::string(Name(dtype)) + " [";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

TensorFile TensorFile::Open(const std::filesystem::path& file) {
  TensorFile opened;
  opened.path_ = file;
  opened.Add(file);
  return opened;
}

TensorFile TensorFile::Of(const std::filesystem::path& path, std::vector<TensorRef> tensors,
                          std::vector<std::shared_ptr<const FileMap>> maps) {
  TensorFile made;
  made.path_ = path;
  made.maps_ = std::move(maps);
  for (TensorRef& tensor : tensors) {
    std::string name = tensor.name;
    const bool inserted = made.tensors_.emplace(std::move(name), std::move(tensor)).second;
    LIEQ_ASSERT(inserted);
  }
  return made;
}

void TensorFile::Add(const std::filesystem::path& file) {
  auto map = std::make_shared<const FileMap>(file);
  TensorHeader header = ParseTensorHeader(map->bytes(), file);
  for (TensorRef& tensor : header.tensors) {
    std::string name = tensor.name;
    const auto [at, inserted] = tensors_.try_emplace(std::move(name), std::move(tensor));
    if (!inserted) {
      throw Error({.what = "two shards hold the same tensor",
                   .where = file.string() + ": tensor '" + Printable(at->first) + "'",
                   .found = at->second.file.string()});
    }
  }
  metadata_.merge(header.metadata);
  maps_.push_back(std::move(map));
}

TensorFile TensorFile::OpenFolder(const std::filesystem::path& folder) {
  const bool one = Exists(folder / kSingleFile), several = Exists(folder / kIndexFile);
  if (!one && !several) RefuseWithoutWeights(folder);
  if (!several) return OpenSingle(folder);
  TensorFile shards = OpenShards(folder);
  // Some writers make an index for one file too.
  const bool same_file =
      shards.maps_.size() == 1 && shards.maps_[0]->path().filename() == kSingleFile;
  if (one && !same_file) RequireSameTensors(OpenSingle(folder), shards);
  return shards;
}

TensorFile TensorFile::OpenSingle(const std::filesystem::path& folder) {
  TensorFile opened = Open(folder / kSingleFile);
  opened.path_ = folder;
  return opened;
}

TensorFile TensorFile::OpenShards(const std::filesystem::path& folder) {
  const std::filesystem::path index_path = folder / kIndexFile;
  const ShardIndex index = ReadIndex(index_path);
  TensorFile opened;
  opened.path_ = folder;
  for (const std::string& shard : index.shards) {
    if (!Exists(folder / shard)) {
      throw Error({.what = "a shard is missing",
                   .where = index_path.string(),
                   .expected = Printable(shard),
                   .found = "no such file",
                   .hint = MissingShardHint(folder)});
    }
    opened.Add(folder / shard);
  }
  for (const auto& [name, shard] : index.shard_of) {
    const auto found = opened.tensors_.find(name);
    if (found == opened.tensors_.end()) Elsewhere(index_path, name, "in " + shard, "in no shard");
    const std::string file = found->second.file.filename().string();
    if (file != shard) Elsewhere(index_path, name, "in " + shard, "in " + file);
  }
  for (const auto& [name, tensor] : opened.tensors_) {
    if (!index.shard_of.contains(name)) {
      Elsewhere(index_path, name, "in the index", "only in " + tensor.file.filename().string());
    }
  }
  return opened;
}

void TensorFile::Rename(const std::function<std::string(const std::string&)>& name_of) {
  std::map<std::string, TensorRef, std::less<>> renamed;
  for (auto& [name, tensor] : tensors_) {
    std::string now = name_of(name);
    tensor.name = now;
    const auto [at, inserted] = renamed.try_emplace(std::move(now), std::move(tensor));
    if (!inserted) {
      throw Error(
          {.what = "two tensors whose names mean the same",
           .where = path_.string(),
           .found = Printable(name) + " and another that is read as " + Printable(at->first)});
    }
  }
  tensors_ = std::move(renamed);
}

void TensorFile::Erase(std::string_view name) {
  if (const auto found = tensors_.find(name); found != tensors_.end()) tensors_.erase(found);
}

bool TensorFile::Has(std::string_view name) const {
  return tensors_.find(name) != tensors_.end();
}

const TensorRef& TensorFile::At(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw Error({.what = "tensor is missing",
                 .where = path_.string(),
                 .expected = "a tensor '" + Printable(name) + "'"});
  }
  return found->second;
}

namespace {

std::map<std::string, std::string> WithFormat(std::map<std::string, std::string> metadata) {
  metadata.try_emplace("format", "pt");  // transformers refuses a file without it
  return metadata;
}

/// Bytes of the tensor that `spec` describes.
std::uint64_t DataBytes(const TensorSpec& spec) {
  std::uint64_t bytes = ItemSize(spec.dtype);
  for (const std::int64_t extent : spec.shape) {
    LIEQ_ASSERT(extent >= 1);
    const bool fits = CheckedMultiply(bytes, static_cast<std::uint64_t>(extent), bytes);
    LIEQ_ASSERT(fits);
  }
  return bytes;
}

std::string Quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// u64 length and JSON, padded with spaces so that the data begin at a multiple of 8; and as if
/// every offset had as many digits as the last, so that the size of a file does not depend on the
/// order of its tensors: it is known before it is known which layers get which width.
std::string RenderHeader(std::span<const TensorSpec> specs,
                         const std::map<std::string, std::string>& metadata) {
  std::string json = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (json.back() != '{') json += ',';
    json += Quoted(key) + ':' + Quoted(value);
  }
  json += '}';
  std::uint64_t total = 0;
  for (const TensorSpec& spec : specs) total += DataBytes(spec);
  const std::size_t most_digits = std::to_string(total).size();
  std::size_t spared = 0;
  std::uint64_t offset = 0;
  const auto add_offset = [&] {
    const std::string digits = std::to_string(offset);
    spared += most_digits - digits.size();
    json += digits;
  };
  for (const TensorSpec& spec : specs) {
    json += ',' + Quoted(spec.name) + ":{\"dtype\":\"" + std::string(Name(spec.dtype)) +
            "\",\"shape\":[";
    for (const std::int64_t extent : spec.shape) {
      if (json.back() != '[') json += ',';
      json += std::to_string(extent);
    }
    json += "],\"data_offsets\":[";
    add_offset();
    offset += DataBytes(spec);
    json += ',';
    add_offset();
    json += "]}";
  }
  json += '}';
  json.append(spared, ' ');
  json.append((8 - json.size() % 8) % 8, ' ');
  LIEQ_ASSERT(json.size() <= kMostHeaderBytes);

  const std::uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + json;
}

}  // namespace

struct TensorWriter::State {
  State(const std::filesystem::path& path, std::vector<TensorSpec> to_write)
      : file(path), specs(std::move(to_write)) {}

  GatheredFile file;
  std::vector<TensorSpec> specs;
  std::size_t current = 0;    // the tensor being written
  std::uint64_t missing = 0;  // bytes it still lacks
};

std::uint64_t TensorWriter::FileBytes(std::span<const TensorSpec> specs,
                                      const std::map<std::string, std::string>& metadata) {
  std::uint64_t bytes = RenderHeader(specs, WithFormat(metadata)).size();
  for (const TensorSpec& spec : specs) bytes += DataBytes(spec);
  return bytes;
}

TensorWriter::TensorWriter(const std::filesystem::path& path, std::vector<TensorSpec> specs,
                           std::map<std::string, std::string> metadata)
    : state_(std::make_unique<State>(path, std::move(specs))) {
  std::vector<std::string_view> names;
  for (const TensorSpec& spec : state_->specs) {
    LIEQ_ASSERT(spec.name != "__metadata__");
    names.push_back(spec.name);
  }
  RequireUniqueNames(std::move(names), path);
  const std::string header = RenderHeader(state_->specs, WithFormat(std::move(metadata)));
  state_->file.Write(std::as_bytes(std::span(header)));
  if (!state_->specs.empty()) state_->missing = DataBytes(state_->specs[0]);
}

TensorWriter::~TensorWriter() = default;

void TensorWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  State& state = *state_;
  LIEQ_ASSERT(state.current < state.specs.size() && state.specs[state.current].name == name);
  LIEQ_ASSERT(bytes.size() <= state.missing);
  state.file.Write(bytes);
  state.missing -= bytes.size();
  if (state.missing == 0 && ++state.current < state.specs.size()) {
    state.missing = DataBytes(state.specs[state.current]);
  }
}

void TensorWriter::Commit() {
  LIEQ_ASSERT(state_->current == state_->specs.size());
  state_->file.Commit();
}

}  // namespace lieq
