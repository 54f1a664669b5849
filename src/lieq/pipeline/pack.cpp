#include "lieq/pipeline/pack.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/base/stopwatch.h"
#include "lieq/container/finite.h"
#include "lieq/container/generation_config.h"
#include "lieq/container/output_files.h"
#include "lieq/container/packed_file.h"
#include "lieq/container/tensor_names.h"
#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/io/printable.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLine = 64;  // bytes that a packed matrix begins at a multiple of

/// tokenizer_config.json with the template that the model's chats are written by.
std::string TokenizerConfigOf(const ModelFolder& model) {
  if (!model.tokenizer_config.empty() || !fs::is_directory(model.path)) {
    return model.tokenizer_config;
  }
  const fs::path config = model.path / "tokenizer_config.json";
  const fs::path own = model.path / "chat_template.jinja";
  Json json = fs::exists(config) ? ReadJson(config) : Json::object();
  if (fs::exists(own) && json.is_object()) json["chat_template"] = ReadText(own);
  return json.dump();
}

/// What a packed file holds of a model, tensor by tensor.
class PackedContent {
 public:
  /// Both outlive this. Throws Error as Pack does.
  PackedContent(const ModelFolder& model, ThreadPool& pool) : model_(model), pool_(pool) {
    const Weights& weights = model.weights;
    Add(std::string(kEmbeddingModule), weights.embedding);
    for (Index layer = 0; layer < weights.config.layers; ++layer) AddLayer(layer);
    if (!weights.config.tied) Add(std::string(kHeadModule), weights.head);
    if (table_.empty()) {
      throw Error({.what = "the model has no quantized matrices: there is nothing to pack",
                   .where = model.path.string(),
                   .expected = "codes and scales, as `lieq quantize` writes them",
                   .found = "floats"});
    }
    for (const auto& [name, tensor] : model.tensors.tensors()) floats_.push_back(&tensor);
    // Wide items first, so that all lie at multiples of their size.
    std::ranges::stable_sort(floats_, std::greater(),
                             [](const TensorRef* each) { return ItemSize(each->dtype); });
    for (const TensorRef* tensor : floats_) {
      specs_.push_back({tensor->name, tensor->dtype, tensor->shape});
    }
    AddTexts();
  }

  [[nodiscard]] const PackedTable& table() const noexcept { return table_; }
  [[nodiscard]] const std::vector<TensorSpec>& specs() const noexcept { return specs_; }
  [[nodiscard]] Index float_matrices() const noexcept { return float_matrices_; }

  /// Gives each tensor, in the order of specs(), to `see`.
  void ForEach(Context& context,
               const std::function<void(const std::string&, std::span<const std::byte>)>& see) {
    Stage stage(context.progress, "packing", "matrix", std::ssize(matrices_));
    for (const auto& [module, matrix] : matrices_) {
      context.ThrowIfStopped();
      see(PackedTensor(module), PackedMatrix(*matrix, pool_).held());
      stage.Done();
    }
    for (const TensorRef* tensor : floats_) {
      context.ThrowIfStopped();
      see(tensor->name, tensor->bytes);
      for (const auto& map : model_.tensors.maps()) map->Drop(tensor->bytes);
    }
    for (const auto& [name, text] : texts_) see(name, std::as_bytes(std::span(text)));
  }

 private:
  void AddLayer(Index layer) {
    const ModelConfig& config = model_.weights.config;
    const LayerShape shape = config.Shape(layer);
    for (const Site site : config.Sites(shape)) {
      const AnyMatrix& matrix = model_.weights.layers[Size(layer)].At(site).weight;
      if (!config.IsOfExperts(shape, site)) {
        Add(ModuleName(config, layer, site), matrix);
        continue;
      }
      const Index parts = config.Parts(layer, site), rows = Rows(matrix) / parts;
      for (Index part = 0; part < parts; ++part) {
        Add(ModuleName(config, layer, site, part), RowsOf(matrix, part * rows, rows));
      }
    }
  }

  void Add(const std::string& module, const AnyMatrix& matrix) {
    const auto* codes = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    if (codes == nullptr) {
      ++float_matrices_;
      return;
    }
    const QMatrix& from = **codes;
    if (!PackedMatrix::Holds(from.grid())) {
      throw Error({.what = "a grid that packed kernels have no layout for",
                   .where = model_.path.string() + ": " + module,
                   .expected = "2, 3, 4, 6 or 8 bits, or 5 without a half offset",
                   .found = std::to_string(from.grid().bits) + " bits, " +
                            std::string(Describe(from.grid().offset))});
    }
    const LaidOutForm form = PackedMatrix::FormOf(from, pool_);
    table_[module] = {.rows = from.rows(), .cols = from.cols(), .form = form};
    specs_.push_back({PackedTensor(module),
                      DType::kU8,
                      {PackedMatrix::BytesOf(form, from.rows(), from.cols())}});
    matrices_.emplace_back(module, *codes);
  }

  void AddTexts() {
    const auto add = [&](const char* file, std::string text) {
      if (text.empty()) return;
      specs_.push_back({TextTensor(file), DType::kU8, {std::ssize(text)}});
      texts_.emplace_back(TextTensor(file), std::move(text));
    };
    add("config.json", model_.config.dump());
    std::string tokenizer = model_.tokenizer;
    const fs::path file = model_.path / "tokenizer.json";
    if (tokenizer.empty() && fs::is_directory(model_.path) && fs::exists(file)) {
      tokenizer = ReadText(file);
    }
    std::string config = TokenizerConfigOf(model_);
    // Where there is none, that of another model, beside the packed file, is not meant.
    if (config.empty() && !tokenizer.empty()) config = "{}";
    add("tokenizer.json", std::move(tokenizer));
    add("tokenizer_config.json", std::move(config));
    if (const auto generation = GenerationConfigOf(model_)) {
      add("generation_config.json", generation->json.dump());
    }
    if (const Record record = RecordOf(model_); !record.empty()) add("lieq.json", record.dump());
  }

  const ModelFolder& model_;
  ThreadPool& pool_;
  PackedTable table_;
  std::vector<TensorSpec> specs_;
  std::vector<std::pair<std::string, std::shared_ptr<const QMatrix>>> matrices_;  // by module
  std::vector<const TensorRef*> floats_;
  std::vector<std::pair<std::string, std::string>> texts_;  // by tensor
  Index float_matrices_ = 0;
};

/// {"TENSOR": "hash", ...}
std::string HashText(const std::map<std::string, std::string>& hashes) {
  return Json(hashes).dump();
}

std::map<std::string, std::string> MetadataOf(const PackedContent& content,
                                              const ModelFolder& model) {
  return PackedMetadata(content.table(), "lieq " + std::string(kVersion),
                        fs::weakly_canonical(model.path).filename().string(), HashModel(model));
}

/// With as many spaces as carry the data, and so every packed matrix, to a line of the cache.
std::map<std::string, std::string> Padded(std::map<std::string, std::string> metadata,
                                          std::span<const TensorSpec> specs) {
  metadata["padding"] = "";
  const std::uint64_t header = TensorWriter::FileBytes(specs, metadata) - DataBytes(specs);
  metadata["padding"] = std::string((kLine - header % kLine) % kLine, ' ');
  return metadata;
}

void Write(PackedContent& content, std::map<std::string, std::string> metadata,
           const fs::path& path, Context& context) {
  std::map<std::string, std::string> hashes;
  for (const TensorSpec& spec : content.specs()) hashes[spec.name] = std::string(32, '0');
  std::vector<TensorSpec> specs = content.specs();
  specs.push_back({std::string(kPackedHashes), DType::kU8, {std::ssize(HashText(hashes))}});
  TensorWriter writer(path, specs, Padded(std::move(metadata), specs));
  content.ForEach(context, [&](const std::string& name, std::span<const std::byte> bytes) {
    hashes[name] = Hasher().Add(bytes).Hex();
    writer.Write(name, bytes);
  });
  const std::string text = HashText(hashes);
  writer.Write(kPackedHashes, std::as_bytes(std::span(text)));
  writer.Commit();
}

std::string_view KindOf(std::string_view tensor) {
  if (tensor.starts_with(TextTensor(""))) return "texts";
  return tensor.ends_with(PackedTensor("")) ? "packed bytes" : "values";
}

}  // namespace

PackOutcome Pack(const PackRequest& given, Session& session) {
  const Stopwatch watch;
  PackRequest request = given;
  request.output = PlainOutput(request.output);
  CheckPlaces({{request.model, InputRole::kModel, "the source model"}},
              {{request.output, OutputRole::kFile, "the output", FindFileKind("packed")}},
              {.force = request.force, .keeps_files = true});
  const ModelFolder model = OpenInput(request.model, session.log());
  RequireFinite(model, session.pool());
  PackedContent content(model, session.pool());
  Write(content, MetadataOf(content, model), request.output, session.context());
  try {
    CheckHashes(request.output, session.pool());
    (void)OpenPackedFile(request.output);
  } catch (...) {
    std::error_code error;
    fs::remove(request.output, error);
    throw;
  }
  PackOutcome outcome{.bytes = fs::file_size(request.output),
                      .matrices = std::ssize(content.table()),
                      .float_matrices = content.float_matrices()};
  for (const auto& [module, entry] : content.table()) {
    outcome.packed_bytes += PackedMatrix::BytesOf(entry.form, entry.rows, entry.cols);
  }
  outcome.seconds = watch.seconds();
  return outcome;
}

Record PackRecord(const PackRequest& request, const PackOutcome& outcome) {
  return {{"schema", 1},
          {"kind", "packed file"},
          {"model", request.model.string()},
          {"output", request.output.string()},
          {"bytes", outcome.bytes},
          {"matrices", outcome.matrices},
          {"packed_bytes", outcome.packed_bytes},
          {"float_matrices", outcome.float_matrices},
          {"seconds", outcome.seconds}};
}

ModelFolder OpenRunnable(const fs::path& path, Session& session) {
  if (!IsPackedFile(path)) return OpenInput(path, session.log());
  if (!session.runs_packed()) {
    throw Error({.what = "a packed file runs on the processor, by packed kernels",
                 .where = path.string(),
                 .expected = "--device cpu and --kernels packed, or a row of it",
                 .found = session.device().description(),
                 .hint = "leave --kernels and --device out, or give the model that the file was "
                         "made from"});
  }
  ModelFolder model = OpenPackedFile(path);
  for (const std::string& note : model.notes) session.log().Info(path.string() + ": " + note);
  return model;
}

Comparison VerifyPacked(const fs::path& file, const fs::path& source, Session& session) {
  CheckHashes(file, session.pool());
  const ModelFolder found = OpenPackedFile(file);
  const ModelFolder expected = OpenInput(source, session.log());
  PackedContent content(expected, session.pool());
  const TensorFile tensors = TensorFile::Open(file);
  Comparison comparison{.linears = std::ssize(content.table()),
                        .same_grids = std::ssize(content.table())};
  const auto differ = [&](std::string_view kind, const std::string& tensor, std::string what,
                          std::string there) {
    auto at = std::ranges::find(comparison.differences, kind, &Difference::kind);
    if (at == comparison.differences.end()) {
      comparison.differences.push_back({.kind = std::string(kind),
                                        .tensor = tensor,
                                        .expected = std::move(what),
                                        .found = std::move(there)});
      at = std::prev(comparison.differences.end());
    }
    ++at->count;
  };
  const auto metadata = PackedMetadata(content.table(), "", "", "");
  if (const std::string& table = tensors.metadata().at("matrices");
      table != metadata.at("matrices")) {
    differ("grids", "metadata, matrices", "those of the model", "others");
  }
  content.ForEach(session.context(),
                  [&](const std::string& name, std::span<const std::byte> bytes) {
                    if (!tensors.Has(name)) return differ(KindOf(name), name, "a tensor", "none");
                    const std::span<const std::byte> there = tensors.At(name).bytes;
                    if (!std::ranges::equal(bytes, there)) {
                      differ(KindOf(name), name, "hash " + Hasher().Add(bytes).Hex(),
                             "hash " + Hasher().Add(there).Hex());
                    }
                    for (const auto& map : tensors.maps()) map->Drop(there);
                  });
  for (const auto& [module, entry] : content.table()) comparison.values += entry.rows * entry.cols;
  if (tensors.tensors().size() != content.specs().size() + 1) {
    differ("tensors", file.string(), std::to_string(content.specs().size() + 1),
           std::to_string(tensors.tensors().size()));
  }
  return comparison;
}

}  // namespace lieq
