#include "lieq/container/packed_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/tensor_names.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::string_view kRemedy = "make it again: lieq pack MODEL -o FILE";
constexpr std::string_view kTextStart = "file:";

[[noreturn]] void Fail(std::string what, std::string where, std::string expected,
                       std::string found) {
  throw Error({.what = std::move(what),
               .where = std::move(where),
               .expected = std::move(expected),
               .found = Printable(found),
               .hint = std::string(kRemedy)});
}

/// A file that is one by its first bytes, of this version.
TensorFile OpenTensors(const std::filesystem::path& path) {
  std::optional<TensorFile> opened;
  try {
    opened = TensorFile::Open(path);
  } catch (const Error& error) {  // cut, or written over: what is left says how
    Problem problem = error.problem();
    problem.hint += (problem.hint.empty() ? "" : ", or ") + std::string(kRemedy);
    throw Error(std::move(problem));
  }
  const auto& metadata = opened->metadata();
  const auto expect = [&](const char* key, std::string_view value, const char* what) {
    const auto found = metadata.find(key);
    if (found != metadata.end() && found->second == value) return;
    Fail(what, path.string() + ": metadata, " + key, std::string(value),
         found == metadata.end() ? "none" : found->second);
  };
  expect("format", kPackedFormat, "not a packed file");
  expect("version", kPackedVersion, "a packed file of another version of this program");
  expect("layout", kPackedLayout, "a packed file for kernels of another version of this program");
  return *std::move(opened);
}

Record ToJson(const PackedEntry& entry) {
  const Grid& grid = entry.form.grid;
  return {{"rows", entry.rows},
          {"cols", entry.cols},
          {"bits", grid.bits},
          {"group_size", grid.group_size},
          {"offset", std::string(Name(grid.offset))},
          {"k_quant", grid.k_quant},
          {"packed_bits", entry.form.bits},
          {"half", entry.form.half}};
}

PackedEntry EntryOf(const JsonObject& json, const std::string& where) {
  constexpr std::int64_t kMostExtent = std::int64_t{1} << 24;  // as CheckConfig has it
  const auto integer = [&](const char* key, std::int64_t least, std::int64_t most) {
    const std::int64_t value = json.Integer(key);
    if (value >= least && value <= most) return value;
    Fail("number out of range", json.Where(key),
         std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
  };
  const std::optional<Offset> offset = OffsetFromName(json.String("offset"));
  if (!offset)
    Fail("no such offset", json.Where("offset"), "symmetric, ...", json.String("offset"));
  PackedEntry entry{.rows = integer("rows", 1, kMostExtent),
                    .cols = integer("cols", 1, kMostExtent),
                    .form = {.grid = {.bits = static_cast<int>(integer("bits", 2, 8)),
                                      .group_size = integer("group_size", 0, kMostExtent),
                                      .offset = *offset,
                                      .k_quant = json.Boolean("k_quant")},
                             .bits = static_cast<int>(integer("packed_bits", 2, 8)),
                             .half = json.Boolean("half")}};
  if (!IsForm(entry.form, entry.cols)) {
    Fail("a grid that no packed matrix has", where, "one that `lieq pack` writes", "another");
  }
  return entry;
}

PackedTable ReadTable(const TensorFile& file) {
  const std::string where = file.path().string() + ": metadata, matrices";
  const auto found = file.metadata().find("matrices");
  if (found == file.metadata().end())
    Fail("the table of matrices is missing", where, "one", "none");
  const Json json = ParseJson(found->second, where);
  const JsonObject object(json, where);
  PackedTable table;
  for (const auto& [module, entry] : json.items()) {
    const std::string place = where + ": /" + Printable(module);
    table.emplace(module, EntryOf(JsonObject(entry, place), place));
  }
  return table;
}

/// A text that the file has; empty where it has none.
std::string TextOf(const TensorFile& file, std::string_view name) {
  if (!file.Has(TextTensor(name))) return {};
  const TensorRef& tensor = file.At(TextTensor(name));
  if (tensor.dtype != DType::kU8) {
    Fail("wrong type", tensor.file.string() + ": tensor '" + tensor.name + "'", "U8",
         std::string(Name(tensor.dtype)));
  }
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

PackedReader ReaderOf(PackedTable table) {
  return [table = std::move(table)](const TensorFile& file, const std::string& module, Index rows,
                                    Index cols) -> std::optional<PackedModule> {
    const auto found = table.find(module);
    if (found == table.end()) return std::nullopt;
    const auto& [name, entry] = *found;
    const auto shape = [](Index r, Index c) {
      return std::to_string(r) + ", " + std::to_string(c);
    };
    if (entry.rows != rows || entry.cols != cols) {
      Fail("shape does not agree with config.json",
           file.path().string() + ": metadata, matrices: /" + Printable(module), shape(rows, cols),
           shape(entry.rows, entry.cols));
    }
    const TensorRef& tensor = file.At(PackedTensor(module));
    const std::string where = tensor.file.string() + ": tensor '" + Printable(tensor.name) + "'";
    if (tensor.dtype != DType::kU8)
      Fail("wrong type", where, "U8", std::string(Name(tensor.dtype)));
    if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % 64 != 0) {
      Fail("a packed matrix begins where kernels cannot read it", where,
           "a multiple of 64 bytes from the file's beginning", "another place");
    }
    return PackedModule{
        .matrix = std::make_shared<const LaidOutMatrix>(
            rows, cols,
            LaidOutMatrix::Part{.form = entry.form, .bytes = tensor.bytes, .where = where},
            file.maps().front()),
        .tensors = {tensor.name}};
  };
}

}  // namespace

std::string PackedTensor(std::string_view module) {
  return std::string(module) + ".packed";
}

std::string TextTensor(std::string_view file) {
  return std::string(kTextStart) + std::string(file);
}

std::map<std::string, std::string> PackedMetadata(const PackedTable& table,
                                                  const std::string& program,
                                                  const std::string& source,
                                                  const std::string& source_hash) {
  Json matrices = Json::object();
  for (const auto& [module, entry] : table) matrices[module] = Json(ToJson(entry));
  return {{"format", std::string(kPackedFormat)},
          {"layout", std::string(kPackedLayout)},
          {"matrices", matrices.dump()},
          {"program", program},
          {"source", source},
          {"source_hash", source_hash},
          {"version", std::string(kPackedVersion)}};
}

bool IsPackedFile(const std::filesystem::path& path) {
  // What TensorWriter begins with: "format" is the first of the metadata's keys.
  static const std::string kStart =
      "{\"__metadata__\":{\"format\":\"" + std::string(kPackedFormat) + "\"";
  std::ifstream in(path, std::ios::binary);
  std::string head(8 + kStart.size(), '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  return in.gcount() == static_cast<std::streamsize>(head.size()) && head.substr(8) == kStart;
}

void RefusePackedFile(const std::filesystem::path& path) {
  if (!IsPackedFile(path)) return;
  throw Error({.what = "a packed file runs on a processor, and is good for nothing else",
               .where = path.string(),
               .expected = "a model folder, or a GGUF file",
               .found = "a file that `lieq pack` wrote",
               .hint = "give the model that it was made from; generate, chat, serve and bench take "
                       "the packed file"});
}

ModelFolder OpenPackedFile(const std::filesystem::path& path) {
  TensorFile tensors = OpenTensors(path);
  const std::string where = path.string();
  const std::string text = TextOf(tensors, "config.json");
  if (text.empty()) {
    Fail("the configuration is missing", where, "a tensor '" + TextTensor("config.json") + "'",
         "none");
  }
  ModelFolder model{.path = path, .quantized = true};
  model.config = ParseRecord(text, where + ": config.json");
  const ModelConfig config = ParseModelConfig(ParseJson(text, where + ": config.json"),
                                              where + ": config.json", &model.notes);
  model.tokenizer = TextOf(tensors, "tokenizer.json");
  model.tokenizer_config = TextOf(tensors, "tokenizer_config.json");
  model.generation_config = TextOf(tensors, "generation_config.json");
  model.record = TextOf(tensors, "lieq.json");

  PackedTable table = ReadTable(tensors);
  std::vector<TensorRef> weights, floats;
  for (const auto& [name, tensor] : tensors.tensors()) {
    if (name.starts_with(kTextStart) || name == kPackedHashes) continue;
    weights.push_back(tensor);
    const auto module = std::string_view(name).substr(0, name.rfind('.'));
    if (!table.contains(module) || name != PackedTensor(module)) floats.push_back(tensor);
  }
  const TensorFile all = TensorFile::Of(path, std::move(weights), tensors.maps());
  model.weights = ReadWeights(all, config, ReaderOf(std::move(table)), model.ends, model.notes);
  model.tensors = TensorFile::Of(path, std::move(floats), tensors.maps());
  model.dtype = all.At(model.ends.embedding ? FinalNorm(config) : std::string(kEmbedding)).dtype;
  return model;
}

void CheckHashes(const std::filesystem::path& path, ThreadPool& pool) {
  const TensorFile file = OpenTensors(path);
  const TensorRef& tensor = file.At(kPackedHashes);
  const std::string where = path.string() + ": " + std::string(kPackedHashes);
  const Json json =
      ParseJson({reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()}, where);
  const JsonObject hashes(json, where);
  std::vector<const TensorRef*> tensors;
  for (const auto& [name, each] : file.tensors()) {
    if (name != kPackedHashes) tensors.push_back(&each);
  }
  pool.ParallelFor(static_cast<Index>(tensors.size()), [&](Index task, int) {
    const TensorRef& each = *tensors[Size(task)];
    const std::string found = Hasher().Add(each.bytes).Hex();
    if (const std::string expected = hashes.String(each.name); found != expected) {
      Fail("the file is damaged: bytes are not those that were written",
           each.file.string() + ": tensor '" + Printable(each.name) + "'", "hash " + expected,
           found);
    }
    for (const auto& map : file.maps()) map->Drop(each.bytes);
  });
}

PackedSource SourceOfPacked(const std::filesystem::path& path) {
  const TensorFile file = OpenTensors(path);
  const auto value = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  return {.name = value("source"), .hash = value("source_hash")};
}

}  // namespace lieq
