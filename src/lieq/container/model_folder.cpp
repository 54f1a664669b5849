#include "lieq/container/model_folder.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <type_traits>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/gguf_open.h"
#include "lieq/container/model_by_layers.h"
#include "lieq/container/model_place.h"
#include "lieq/container/packed_file.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/quantization_keys.h"
#include "lieq/container/stacked_experts.h"
#include "lieq/container/tensor_names.h"
#include "lieq/container/tensor_prefix.h"
#include "lieq/container/wrapped_model.h"
#include "lieq/io/printable.h"
#include "lieq/io/weight_files.h"

namespace lieq {
namespace {

constexpr std::uint64_t kMostConfigBytes = std::uint64_t{1} << 20;

/// Takes tensors out of a file, remembering which.
class WeightReader {
 public:
  WeightReader(const TensorFile& file, const ModelConfig& config) : file_(file) {
    weights_.config = config;
    weights_.maps = file.maps();
  }

  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  /// packed: null where all matrices are float. see: where it is given it sees each layer as it is
  /// read, which is not kept then.
  Weights Read(const PackedReader& packed, const SeeLayer& see, EndGrids& ends) {
    packed_ = &packed;
    const ModelConfig& config = weights_.config;
    weights_.embedding = AnyMatrixOf(std::string(kEmbeddingModule), config.vocab, config.hidden);
    ends.embedding = GridOf(weights_.embedding);
    weights_.final_norm = Vector(FinalNorm(config), {config.hidden}, HeldAs::kLessOffset);
    for (Index layer = 0; layer < config.layers; ++layer) {
      LayerWeights read = Layer(layer);
      if (see) {
        see(layer, read);
      } else {
        weights_.layers.push_back(std::move(read));
      }
    }
    weights_.head = config.tied ? TiedHead(ends.embedding.has_value()) : OwnHead();
    if (!config.tied) ends.head = GridOf(weights_.head);
    CheckAllRead();
    return std::move(weights_);
  }

  /// The parts of packed matrices, once all was read.
  [[nodiscard]] const std::set<std::string>& packed_parts() const noexcept { return packed_parts_; }

 private:
  [[noreturn]] static void Fail(const TensorRef& tensor, std::string what, std::string expected,
                                std::string found) {
    throw Error({.what = std::move(what),
                 .where = tensor.file.string() + ": tensor '" + Printable(tensor.name) + "'",
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  /// With what is there instead: names of another saver, or of packed weights.
  [[noreturn]] void Missing(const std::string& name) const {
    std::string found = "none", meaning;
    const std::string module = name.substr(0, name.rfind('.') + 1);
    for (const auto& [other, tensor] : file_.tensors()) {
      if (!other.starts_with(module) || MeaningOf(other).empty()) continue;
      found = "'" + Printable(other) + "'";
      meaning = MeaningOf(other);
      break;
    }
    if (meaning.empty() && read_.empty() && !file_.tensors().empty()) {  // not one as expected
      found = "'" + Printable(file_.tensors().begin()->first) + "' and others";
      meaning = "the tensors are named as no architecture that is read names them";
    }
    throw Error({.what = "tensor is missing",
                 .where = file_.path().string(),
                 .expected = "a tensor '" + Printable(name) + "'",
                 .found = std::move(found),
                 .hint = std::move(meaning)});
  }

  const TensorRef& Take(const std::string& name) {
    if (!file_.Has(name)) Missing(name);
    const TensorRef& tensor = file_.At(name);
    read_.insert(tensor.name);
    return tensor;
  }

  /// A float tensor of this shape, in whichever of the three types.
  const TensorRef& TakeFloat(const std::string& name, const std::vector<std::int64_t>& shape) {
    const TensorRef& tensor = Take(name);
    if (tensor.dtype != DType::kBF16 && tensor.dtype != DType::kF16 &&
        tensor.dtype != DType::kF32) {
      Fail(tensor, "element type is not supported here", "BF16, F16 or F32",
           Describe(tensor.dtype, tensor.shape));
    }
    if (tensor.shape != shape) {
      Fail(tensor, "shape does not agree with config.json", Describe(tensor.dtype, shape),
           Describe(tensor.dtype, tensor.shape));
    }
    return tensor;
  }

  template <class T>
  View<const T, 2> ViewOf(const TensorRef& tensor, Index rows, Index cols) {
    const std::byte* bytes = tensor.bytes.data();
    if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(T) != 0) {
      // The format lets a tensor begin anywhere; reading through an unaligned pointer is undefined.
      auto copy = std::make_shared<Matrix<T>>(rows, cols);
      std::memcpy(copy->data(), bytes, tensor.bytes.size());
      const View<const T, 2> view{copy->data(), rows, cols};
      weights_.owners.push_back(std::move(copy));
      return view;
    }
    return {reinterpret_cast<const T*>(bytes), rows, cols};
  }

  AnyMatrix FloatMatrix(const std::string& name, Index rows, Index cols) {
    const TensorRef& tensor = TakeFloat(name, {rows, cols});
    switch (tensor.dtype) {
      case DType::kBF16:
        return ViewOf<Bf16>(tensor, rows, cols);
      case DType::kF16:
        return ViewOf<F16>(tensor, rows, cols);
      default:
        return ViewOf<float>(tensor, rows, cols);
    }
  }

  std::vector<float> Vector(const std::string& name, const std::vector<std::int64_t>& shape,
                            HeldAs stored = HeldAs::kAsIs) {
    const TensorRef& tensor = TakeFloat(name, shape);
    std::int64_t length = 1;
    for (const std::int64_t extent : shape) length *= extent;
    std::vector<float> values(Size(length));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::byte* item = tensor.bytes.data() + i * ItemSize(tensor.dtype);
      if (tensor.dtype == DType::kF32) {
        std::memcpy(&values[i], item, sizeof(float));
      } else {
        std::uint16_t bits = 0;
        std::memcpy(&bits, item, sizeof(bits));
        values[i] = tensor.dtype == DType::kF16 ? ToFloat(F16{bits}) : ToFloat(Bf16{bits});
      }
      if (!std::isfinite(values[i])) {
        Fail(tensor, "value is not finite", "finite numbers",
             std::to_string(values[i]) + " in row 0, column " + std::to_string(i));
      }
      values[i] = FromStored(values[i], stored, weights_.config);
    }
    return values;
  }

  static std::optional<Grid> GridOf(const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    const auto* laid_out = std::get_if<std::shared_ptr<const LaidOutMatrix>>(&matrix);
    if (laid_out != nullptr) return (*laid_out)->whole().form.grid;
    return packed != nullptr ? std::optional((*packed)->grid()) : std::nullopt;
  }

  /// The matrix, where the config says that the module is packed.
  std::optional<AnyMatrix> Packed(const std::string& module, Index rows, Index cols) {
    if (!*packed_) return std::nullopt;
    std::optional<PackedModule> read = (*packed_)(file_, module, rows, cols);
    if (!read) return std::nullopt;
    for (const std::string& name : read->tensors) {
      const TensorRef& tensor = Take(name);
      packed_parts_.insert(tensor.name);
      for (const auto& map : file_.maps()) map->Drop(tensor.bytes);  // a copy was made
    }
    return std::move(read->matrix);
  }

  AnyMatrix AnyMatrixOf(const std::string& module, Index rows, Index cols) {
    std::optional<AnyMatrix> packed = Packed(module, rows, cols);
    return packed ? std::move(*packed) : FloatMatrix(module + ".weight", rows, cols);
  }

  /// A linear of all experts of a layer, of matrices that lie apart.
  AnyMatrix Experts(Index layer, Site site) {
    const ModelConfig& config = weights_.config;
    const Index parts = config.Parts(layer, site), rows = config.Out(layer, site) / parts;
    std::vector<std::shared_ptr<const QMatrix>> codes;
    std::vector<std::shared_ptr<const LaidOutMatrix>> laid_out;
    std::vector<StackedRows::Part> floats;
    for (Index part = 0; part < parts; ++part) {
      const std::string module = ModuleName(config, layer, site, part);
      const AnyMatrix matrix = AnyMatrixOf(module, rows, config.In(layer, site));
      std::visit(
          [&](const auto& held) {
            if constexpr (requires { held->whole(); }) {
              laid_out.push_back(held);
            } else if constexpr (std::is_constructible_v<StackedRows::Part, decltype(held)>) {
              floats.emplace_back(held);
            } else if constexpr (requires { held->words(); }) {
              codes.push_back(held);
            }
          },
          matrix);
      const bool alike = codes.empty() + laid_out.empty() + floats.empty() == 2 &&
                         (codes.empty() || codes.front()->grid() == codes.back()->grid()) &&
                         (laid_out.empty() || laid_out.front()->whole().form.grid ==
                                                  laid_out.back()->whole().form.grid) &&
                         (floats.empty() || floats.front().index() == floats.back().index());
      if (alike) continue;
      throw Error({.what = "experts of one layer are held in different forms",
                   .where = file_.path().string() + ": " + module,
                   .expected = "the type, or the grid, of " + ModuleName(config, layer, site, 0),
                   .found = "another"});
    }
    if (!codes.empty()) return std::make_shared<const QMatrix>(QMatrix::Stacked(codes));
    if (!laid_out.empty()) {
      return std::make_shared<const LaidOutMatrix>(LaidOutMatrix::Stacked(laid_out));
    }
    return std::make_shared<const StackedRows>(std::move(floats));
  }

  LayerWeights Layer(Index layer) {
    const ModelConfig& config = weights_.config;
    LayerWeights read;
    const LayerShape shape = config.Shape(layer);
    for (const LayerVectorRow& row : LayerVectorRows()) {
      if (!Has(config, shape, row.which)) continue;
      read.*row.values = Vector(LayerTensor(config, layer, row.which),
                                LayerTensorShape(config, layer, row.which), row.stored);
    }
    for (const Site site : config.Sites(shape)) {
      const std::string module = ModuleName(config, layer, site);
      const Index rows = config.Out(shape, site), cols = config.In(shape, site);
      Linear& linear = read.At(site);
      if (config.IsOfExperts(shape, site)) {
        linear.weight = Experts(layer, site);
        continue;
      }
      linear.weight = AnyMatrixOf(module, rows, cols);
      if (config.HasBias(shape, site)) linear.bias = Vector(module + ".bias", {rows});
    }
    return read;
  }

  AnyMatrix OwnHead() {
    const ModelConfig& config = weights_.config;
    std::optional<AnyMatrix> packed = Packed(std::string(kHeadModule), config.vocab, config.hidden);
    if (packed) return std::move(*packed);
    if (!file_.Has(kHead)) {
      throw Error({.what = "the head is missing",
                   .where = file_.path().string(),
                   .expected = "a tensor 'lm_head.weight', since tie_word_embeddings is false",
                   .found = file_.Has("lm_head.weight_packed") ? "a quantized head" : "none",
                   .hint =
                       "if the model's head is its embedding, set \"tie_word_embeddings\": true "
                       "in config.json; else the weights are incomplete"});
    }
    return FloatMatrix(std::string(kHead), config.vocab, config.hidden);
  }

  AnyMatrix TiedHead(bool packed_embedding) {
    const bool present = file_.Has(kHead);
    if (present && packed_embedding) {
      throw Error({.what = "a float head beside a quantized embedding that it is tied to",
                   .where = file_.path().string(),
                   .expected = "no 'lm_head.weight', or tie_word_embeddings false"});
    }
    if (present) CheckTiedHead();
    return weights_.embedding;
  }

  /// Some checkpoints hold the tied head as well. Where it is another matrix, engines part:
  /// transformers 5 uses it, transformers 4 and vLLM use the embedding.
  void CheckTiedHead() {
    const ModelConfig& config = weights_.config;
    const AnyMatrix head = FloatMatrix(std::string(kHead), config.vocab, config.hidden);
    const TensorRef& tensor = file_.At(kHead);
    const bool same = SameValues(head, weights_.embedding);
    for (const auto& map : file_.maps()) map->Drop(tensor.bytes);  // not needed again
    if (same) {
      notes_.push_back("lm_head.weight is the embedding once more: read as tied");
      return;
    }
    throw Error({.what = "the head differs from the embedding although config.json ties them",
                 .where = tensor.file.string() + ": tensor '" + std::string(kHead) + "'",
                 .expected = "the same matrix, or tie_word_embeddings false",
                 .found = Describe(tensor.dtype, tensor.shape),
                 .hint = "to take it as a head of its own set \"tie_word_embeddings\": false in "
                         "config.json; to leave it aside delete the tensor"});
  }

  /// As numbers, whatever types they are stored in.
  static bool SameValues(const AnyMatrix& a, const AnyMatrix& b) {
    constexpr Index kRows = 64;
    for (Index row = 0; row < Rows(a); row += kRows) {
      const Index rows = std::min(kRows, Rows(a) - row);
      Matrix<float> left(rows, Cols(a)), right(rows, Cols(a));
      WidenRows(a, row, left.view());
      WidenRows(b, row, right.view());
      if (!std::equal(left.data(), left.data() + left.size(), right.data())) return false;
    }
    return true;
  }

  /// A tensor that nobody asked for means that the model is not what its config says.
  void CheckAllRead() const {
    constexpr std::size_t kNamed = 3;
    std::string names, hint;
    std::size_t count = 0;
    for (const auto& [name, tensor] : file_.tensors()) {
      // Saved by transformers before 4.32; computed from the config since.
      if (read_.contains(name) || name.ends_with("rotary_emb.inv_freq")) continue;
      if (hint.empty()) hint = MeaningOf(name);
      if (++count <= kNamed) names += (count > 1 ? ", " : "") + Printable(name);
    }
    if (count == 0) return;
    if (count > kNamed) names += " and " + std::to_string(count - kNamed) + " more";
    throw Error({.what = "tensor not expected in a " + weights_.config.architecture,
                 .where = file_.path().string(),
                 .found = std::move(names),
                 .hint = std::move(hint)});
  }

  const TensorFile& file_;
  const PackedReader* packed_ = nullptr;
  Weights weights_;
  std::set<std::string_view> read_;
  std::set<std::string> packed_parts_;
  std::vector<std::string> notes_;
};

}  // namespace

namespace {

/// By what config.json says of quantization; null where it says nothing.
PackedReader PackedReaderOf(const Json& json, const Record& record, const ModelConfig& config,
                            const std::string& where) {
  const auto has = [&](const char* key) { return json.contains(key) && !json.at(key).is_null(); };
  const std::string place = where + ": /quantization_config";
  if (has("quantization")) {  // MLX
    if (has("quantization_config") && json.at("quantization_config") != json.at("quantization")) {
      throw Error({.what = "two descriptions of the quantization that differ",
                   .where = place,
                   .expected = "the same as /quantization",
                   .found = "another"});
    }
    return MlxReader(json.at("quantization"), where + ": /quantization");
  }
  if (!has("quantization_config")) return nullptr;
  const Json& quantization = json.at("quantization_config");
  if (quantization.is_object() && quantization.value("quant_method", Json()) == "gptq") {
    return GptqReader(record.at("quantization_config"), config, place);
  }
  return CompressedTensorsReader(quantization, config, place);
}

}  // namespace

namespace {

/// The tensors of a file but for some.
TensorFile Without(const std::set<std::string>& names, const TensorFile& file) {
  std::vector<TensorRef> kept;
  for (const auto& [name, tensor] : file.tensors()) {
    if (!names.contains(name)) kept.push_back(tensor);
  }
  return TensorFile::Of(file.path(), std::move(kept), file.maps());
}

}  // namespace

Weights ReadWeights(const TensorFile& tensors, const ModelConfig& config,
                    const PackedReader& packed, EndGrids& ends, std::vector<std::string>& notes) {
  WeightReader reader(tensors, config);
  Weights weights = reader.Read(packed, nullptr, ends);
  notes.insert(notes.end(), reader.notes().begin(), reader.notes().end());
  return weights;
}

ModelFolder OpenModel(const std::filesystem::path& folder) {
  return OpenModelByLayers(folder, nullptr);
}

ModelFolder OpenModelByLayers(const std::filesystem::path& folder, const SeeLayer& see) {
  if (IsGguf(folder)) {
    LIEQ_ASSERT(!see);
    return OpenGguf(folder);
  }
  RefusePackedFile(folder);
  RequireModelFolder(folder);
  const std::string where = (folder / "config.json").string();
  const std::string text = ReadText(where, kMostConfigBytes);
  Record record = ParseRecord(text, where);
  Json json = ParseJson(text, where);
  std::vector<std::string> notes;
  const bool wrapped = UnwrapConfig(record, notes);
  if (wrapped) json = Json(record);
  std::optional<TensorFile> opened;
  if (SaysQuantized(record)) {
    opened = TensorFile::OpenFolder(folder);
    if (HoldsFloatsOnly(*opened)) {
      notes.push_back(EraseQuantization(record));
      json = Json(record);
    }
  }
  const ModelConfig config = ParseModelConfig(json, where, &notes);
  record["architectures"] = Record::array({config.architecture});  // for those that need the class
  const PackedReader packed = PackedReaderOf(json, record, config, where);

  TensorFile tensors = opened ? std::move(*opened) : TensorFile::OpenFolder(folder);
  if (std::filesystem::exists(folder / kSingleFile) &&
      std::filesystem::exists(folder / kIndexFile) && tensors.maps().size() > 1) {
    notes.push_back(
        "model.safetensors and the shards of the index hold the same tensors: the "
        "shards are read");
  }
  UnwrapTensors(wrapped, tensors, notes);
  const std::vector<std::string> renamed = NormalizeNames(tensors);
  notes.insert(notes.end(), renamed.begin(), renamed.end());
  const std::vector<std::string> split = SplitExperts(tensors, config);
  notes.insert(notes.end(), split.begin(), split.end());
  EndGrids ends;
  WeightReader reader(tensors, config);
  Weights weights = reader.Read(packed, see, ends);
  notes.insert(notes.end(), reader.notes().begin(), reader.notes().end());
  if (config.tied) tensors.Erase(kHead);  // so that nothing takes it for one of its own
  if (HasAdapter(folder)) {
    notes.push_back("an adapter (LoRA) lies beside the weights: it is not applied");
  }
  const DType dtype =
      tensors.At(ends.embedding ? FinalNorm(config) : std::string(kEmbedding)).dtype;
  if (packed) tensors = Without(reader.packed_parts(), tensors);
  return {.path = folder,
          .config = std::move(record),
          .tensors = std::move(tensors),
          .weights = std::move(weights),
          .dtype = dtype,
          .quantized = packed != nullptr,
          .ends = ends,
          .notes = std::move(notes)};
}

}  // namespace lieq
