#include "lieq/container/model_folder.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/gguf_open.h"
#include "lieq/container/model_by_layers.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/quantization_keys.h"
#include "lieq/container/tensor_names.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::uint64_t kMostConfigBytes = std::uint64_t{1} << 20;

bool Exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

/// "Qwen/Qwen3-0.6B": one slash between two plain names, and no such folder to be mistyped here.
bool LooksLikeHubName(const std::filesystem::path& path) {
  const std::string text = path.string();
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) return false;
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  };
  const std::string owner = text.substr(0, slash), name = text.substr(slash + 1);
  return owner[0] != '.' && std::all_of(owner.begin(), owner.end(), plain) &&
         std::all_of(name.begin(), name.end(), plain) && !Exists(owner);
}

void CheckFolder(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    std::string hint;
    if (LooksLikeHubName(folder)) {
      const std::string name = folder.filename().string();
      hint = "download it first: hf download " + folder.string() + " --local-dir " + name +
             " (with huggingface_hub before 0.34: huggingface-cli download, same arguments)";
    }
    throw Error({.what = "no such folder",
                 .where = folder.string(),
                 .expected = "a folder with config.json, *.safetensors and tokenizer.json",
                 .hint = std::move(hint)});
  }
  if (!std::filesystem::is_directory(folder, error)) {
    throw Error({.what = "not a folder",
                 .where = folder.string(),
                 .expected = "the folder that holds config.json and the weights",
                 .found = "a file"});
  }
  if (Exists(folder / "config.json")) return;
  std::string found = "no such file", hint;
  if (Exists(folder / "adapter_config.json")) {
    found = "adapter_config.json";
    hint = "this is an adapter (LoRA): merge it into its base model first";
  } else if (Exists(folder / "params.json")) {
    found = "params.json";
    hint = "these are weights in Meta's own layout: take the Hugging Face version of the model";
  }
  throw Error({.what = "config.json is missing",
               .where = folder.string(),
               .expected = "config.json of a Hugging Face model",
               .found = std::move(found),
               .hint = std::move(hint)});
}

/// Takes tensors out of a file, remembering which.
class WeightReader {
 public:
  WeightReader(const TensorFile& file, const ModelConfig& config) : file_(file) {
    weights_.config = config;
    weights_.maps = file.maps();
  }

  /// packed: null where all matrices are float. see: where it is given it sees each layer as it is
  /// read, which is not kept then.
  Weights Read(const PackedReader& packed, const SeeLayer& see, EdgeGrids& edges) {
    packed_ = &packed;
    const ModelConfig& config = weights_.config;
    weights_.embedding = AnyMatrixOf(std::string(kEmbeddingModule), config.vocab, config.hidden);
    edges.embedding = GridOf(weights_.embedding);
    weights_.final_norm = Vector(std::string(kFinalNorm), config.hidden);
    for (Index layer = 0; layer < config.layers; ++layer) {
      LayerWeights read = Layer(layer);
      if (see) {
        see(layer, read);
      } else {
        weights_.layers.push_back(std::move(read));
      }
    }
    weights_.head = config.tied ? TiedHead(edges.embedding.has_value()) : OwnHead();
    if (!config.tied) edges.head = GridOf(weights_.head);
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

  const TensorRef& Take(const std::string& name) {
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

  std::vector<float> Vector(const std::string& name, Index length) {
    const TensorRef& tensor = TakeFloat(name, {length});
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
    }
    return values;
  }

  static std::optional<Grid> GridOf(const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    return packed != nullptr ? std::optional((*packed)->grid()) : std::nullopt;
  }

  /// The matrix, where the config says that the module is packed.
  std::optional<AnyMatrix> Packed(const std::string& module, Index rows, Index cols) {
    if (!*packed_) return std::nullopt;
    std::optional<PackedModule> read = (*packed_)(file_, module, rows, cols);
    if (!read) return std::nullopt;
    for (const std::string& name : read->tensors) packed_parts_.insert(Take(name).name);
    return std::move(read->matrix);
  }

  AnyMatrix AnyMatrixOf(const std::string& module, Index rows, Index cols) {
    std::optional<AnyMatrix> packed = Packed(module, rows, cols);
    return packed ? std::move(*packed) : FloatMatrix(module + ".weight", rows, cols);
  }

  LayerWeights Layer(Index layer) {
    const ModelConfig& config = weights_.config;
    LayerWeights read;
    read.attention_norm = Vector(LayerTensor(layer, kAttentionNorm), config.hidden);
    read.mlp_norm = Vector(LayerTensor(layer, kMlpNorm), config.hidden);
    if (config.qk_norm) {
      read.q_norm = Vector(LayerTensor(layer, kQNorm), config.head_dim);
      read.k_norm = Vector(LayerTensor(layer, kKNorm), config.head_dim);
    }
    for (const Site site : kAllSites) {
      const std::string module = ModuleName(layer, site);
      const Index rows = config.Out(site), cols = config.In(site);
      Linear& linear = read.At(site);
      linear.weight = AnyMatrixOf(module, rows, cols);
      if (config.HasBias(site)) linear.bias = Vector(module + ".bias", rows);
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
                   .found = file_.Has("lm_head.weight_packed") ? "a quantized head" : "none"});
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
    const TensorRef& head = Take(std::string(kHead));
    const TensorRef& embedding = file_.At(kEmbedding);
    const bool same = head.dtype == embedding.dtype && head.shape == embedding.shape &&
                      std::equal(head.bytes.begin(), head.bytes.end(), embedding.bytes.begin());
    for (const auto& map : file_.maps()) map->Drop(head.bytes);  // not needed again
    if (same) return;
    Fail(head, "the head differs from the embedding although config.json ties them",
         "the same matrix, or tie_word_embeddings false", Describe(head.dtype, head.shape));
  }

  /// A tensor that nobody asked for means that the model is not what its config says.
  void CheckAllRead() const {
    constexpr std::size_t kNamed = 3;
    std::string names;
    std::size_t count = 0;
    for (const auto& [name, tensor] : file_.tensors()) {
      // Saved by transformers before 4.32; computed from the config since.
      if (read_.contains(name) || name.ends_with("rotary_emb.inv_freq")) continue;
      if (++count <= kNamed) names += (count > 1 ? ", " : "") + Printable(name);
    }
    if (count == 0) return;
    if (count > kNamed) names += " and " + std::to_string(count - kNamed) + " more";
    throw Error({.what = "tensor not expected in a " + weights_.config.architecture,
                 .where = file_.path().string(),
                 .found = std::move(names)});
  }

  const TensorFile& file_;
  const PackedReader* packed_ = nullptr;
  Weights weights_;
  std::set<std::string_view> read_;
  std::set<std::string> packed_parts_;
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

ModelFolder OpenModel(const std::filesystem::path& folder) {
  return OpenModelByLayers(folder, nullptr);
}

ModelFolder OpenModelByLayers(const std::filesystem::path& folder, const SeeLayer& see) {
  if (IsGguf(folder)) {
    LIEQ_ASSERT(!see);
    return OpenGguf(folder);
  }
  CheckFolder(folder);
  const std::string where = (folder / "config.json").string();
  const std::string text = ReadText(where, kMostConfigBytes);
  Record record = ParseRecord(text, where);
  Json json = ParseJson(text, where);
  std::optional<TensorFile> opened;
  if (SaysQuantized(record)) {
    opened = TensorFile::OpenFolder(folder);
    if (HoldsFloatsOnly(*opened)) {
      EraseQuantization(record);
      json = Json(record);
    }
  }
  const ModelConfig config = ParseModelConfig(json, where);
  const PackedReader packed = PackedReaderOf(json, record, config, where);

  TensorFile tensors = opened ? std::move(*opened) : TensorFile::OpenFolder(folder);
  EdgeGrids edges;
  WeightReader reader(tensors, config);
  Weights weights = reader.Read(packed, see, edges);
  const DType dtype = tensors.At(edges.embedding ? kFinalNorm : kEmbedding).dtype;
  if (packed) tensors = Without(reader.packed_parts(), tensors);
  return {.path = folder,
          .config = std::move(record),
          .tensors = std::move(tensors),
          .weights = std::move(weights),
          .dtype = dtype,
          .quantized = packed != nullptr,
          .edges = edges};
}

}  // namespace lieq
