#include "lieq/container/gguf_open.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/container/ggml_blocks.h"
#include "lieq/container/gguf_keys.h"
#include "lieq/container/gguf_names.h"
#include "lieq/container/gguf_tokenizer.h"
#include "lieq/container/tensor_names.h"
#include "lieq/io/printable.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

constexpr std::int64_t kMostRopeHead = 1 << 16;  // scalings are tried one after another

/// The double that the shortest decimal of the float stands for: 1e-5 for 1e-5f.
double Decimal(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(value));
  double decimal = value;
  std::from_chars(text.data(), end.ptr, decimal);
  return decimal;
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(GgufFile::Open(path)) {
    for (const GgufTensor& tensor : file_.tensors()) tensors_.emplace(tensor.name, &tensor);
    weights_.maps = {file_.map()};
  }

  ModelFolder Read() {
    Record config = ReadConfig();
    GgufTokenizer tokenizer = TokenizerFromKeys(file_.keys());
    if (tokenizer.problem) {
      notes_.push_back(tokenizer.problem->what + " (" + tokenizer.problem->where + ", found " +
                       tokenizer.problem->found + ")");
    }
    const std::string where = file_.path().string();
    weights_.config = ParseModelConfig(Json::parse(config.dump()), where);
    ReadWeights();
    const bool packed = std::holds_alternative<Packed>(weights_.embedding);
    const TensorRef* embedding = packed ? nullptr : &refs_.front();
    const DType dtype = embedding != nullptr ? embedding->dtype : DType::kF16;
    EndGrids ends;
    if (packed) ends.embedding = std::get<Packed>(weights_.embedding)->grid();
    if (!weights_.config.tied && std::holds_alternative<Packed>(weights_.head)) {
      ends.head = std::get<Packed>(weights_.head)->grid();
    }
    return {.path = file_.path(),
            .config = std::move(config),
            .tensors = TensorFile::Of(file_.path(), std::move(refs_), {file_.map()}),
            .weights = std::move(weights_),
            .dtype = dtype,
            .quantized = quantized_,
            .ends = ends,
            .notes = std::move(notes_),
            .tokenizer = std::move(tokenizer.json),
            .tokenizer_config = TokenizerConfigFromKeys(file_.keys()),
            .tokenizer_problem = std::move(tokenizer.problem),
            .record = file_.keys().Has(kGgufRecord) ? file_.keys().String(kGgufRecord) : ""};
  }

 private:
  using Packed = std::shared_ptr<const QMatrix>;

  [[nodiscard]] std::string Where(const GgufTensor& tensor) const {
    return file_.path().string() + ": tensor '" + Printable(tensor.name) + "'";
  }

  [[noreturn]] void Refuse(std::string what, std::string where, std::string expected,
                           std::string found) const {
    throw Error({.what = std::move(what),
                 .where = std::move(where),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  // ---- keys ------------------------------------------------------------------------------------

  [[nodiscard]] std::string Key(std::string_view name) const {
    return architecture_ + "." + std::string(name);
  }
  /// Of one number, or of an array of one for each layer that is the same in all.
  [[nodiscard]] std::int64_t Integer(std::string_view name) const {
    const GgufKeys& keys = file_.keys();
    const auto found = keys.values().find(Key(name));
    if (found == keys.values().end() || !found->second.array) return keys.Integer(Key(name));
    const std::vector<std::int64_t> layers = keys.Integers(Key(name));
    if (layers.empty() || std::ranges::count(layers, layers.front()) != std::ssize(layers)) {
      Refuse("layers that differ are not supported", keys.Where(Key(name)),
             "one number for all layers", Describe(found->second));
    }
    return layers.front();
  }
  [[nodiscard]] std::int64_t Integer(std::string_view name, std::int64_t missing) const {
    return file_.keys().Has(Key(name)) ? Integer(name) : missing;
  }

  [[nodiscard]] double Number(std::string_view name) const {
    const double value = Decimal(file_.keys().Number(Key(name)));
    if (!std::isfinite(value)) {  // JSON has no such number: it would be read as missing
      Refuse("value is not finite", file_.keys().Where(Key(name)), "a finite number",
             std::to_string(value));
    }
    return value;
  }

  void RefusePartOfAModel() const {
    const GgufKeys& keys = file_.keys();
    if (keys.Has("split.count") && keys.Integer("split.count") > 1) {
      Refuse("file is one part of several", keys.Where("split.count"),
             "a whole model: llama-gguf-split --merge makes one",
             std::to_string(keys.Integer("split.count")));
    }
  }

  Record ReadRope(double theta, std::int64_t head_dim) {
    Record rope{{"rope_type", "default"}, {"rope_theta", theta}};
    const auto found = tensors_.find(kGgufRopeFactors);
    if (found == tensors_.end()) return rope;
    if (head_dim % 2 != 0) return rope;  // refused with the configuration
    if (head_dim > kMostRopeHead) {
      Refuse("rope factors of heads as large as this are not read", Where(*found->second),
             "heads of at most " + std::to_string(kMostRopeHead), std::to_string(head_dim));
    }
    const std::vector<float> factors = Vector(kGgufRopeFactors, head_dim / 2);
    if (std::ranges::all_of(factors, [](float each) { return each == 1; })) return rope;
    Rope scaling{.theta = theta};
    if (!OwnScaling(scaling, factors, head_dim) && !FindRopeScaling(factors, head_dim, scaling)) {
      Refuse("rope factors are not those of a scaling that is read", Where(*found->second),
             "those of Llama 3", "others");
    }
    rope["rope_type"] = "llama3";
    rope["factor"] = scaling.factor;
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
    rope["original_max_position_embeddings"] = scaling.original_context;
    return rope;
  }

  /// The scaling by keys of our own, where the factors are those of it.
  bool OwnScaling(Rope& rope, const std::vector<float>& factors, std::int64_t head_dim) const {
    const GgufKeys& keys = file_.keys();
    const auto read = [&](const char* name, double& value) {
      const std::string key = std::string("lieq.rope.") + name;
      if (!keys.Has(key)) return false;
      value = Decimal(keys.Number(key));
      return std::isfinite(value) && value > 0;
    };
    Rope own = rope;
    own.scaling = RopeScaling::kLlama3;
    if (!read("factor", own.factor) || !read("low_freq_factor", own.low_freq_factor) ||
        !read("high_freq_factor", own.high_freq_factor) ||
        !read("original_context", own.original_context) || RopeFactors(own, head_dim) != factors) {
      return false;
    }
    rope = own;
    return true;
  }

  /// config.json of the model that the keys and tensors describe.
  Record ReadConfig() {
    const GgufKeys& keys = file_.keys();
    architecture_ = keys.String("general.architecture");
    const auto row = std::ranges::find_if(Architectures(), [&](const Architecture& each) {
      return !each.gguf_name.empty() && each.gguf_name == architecture_;
    });
    if (row == Architectures().end()) {
      std::string names;
      for (const Architecture& each : Architectures()) {
        if (each.gguf_name.empty()) continue;
        names += (names.empty() ? "" : ", ") + std::string(each.gguf_name);
      }
      Refuse("architecture is not supported", keys.Where("general.architecture"), names,
             Printable(architecture_));
    }
    const std::int64_t hidden = Integer("embedding_length");
    const std::int64_t heads = Integer("attention.head_count");
    const std::int64_t head_dim =
        Integer("attention.key_length", hidden / std::max<std::int64_t>(heads, 1));
    RefusePartOfAModel();
    const std::int64_t context = Integer("context_length");
    notes_ = CheckGgufKeys(keys, architecture_,
                           {.hidden = static_cast<double>(hidden),
                            .head_dim = static_cast<double>(head_dim),
                            .context = static_cast<double>(context)});
    const bool has_theta = keys.Has(Key("rope.freq_base"));
    const double theta = has_theta ? Number("rope.freq_base") : 10000.0;
    if (!has_theta) notes_.push_back("no key " + Key("rope.freq_base") + ": 10000 is taken");
    const GgufTensor& embedding = At(kGgufEmbedding);
    const bool qwen2 = row->attention_bias == AttentionBias::kQkvAlways;
    Record config{{"architectures", Record::array({row->name})},
                  {"model_type", row->model_type},
                  {"hidden_size", hidden},
                  {"intermediate_size", Integer("feed_forward_length")},
                  {"num_hidden_layers", Integer("block_count")},
                  {"num_attention_heads", heads},
                  {"num_key_value_heads", Integer("attention.head_count_kv", heads)},
                  {"head_dim", head_dim},
                  {"hidden_act", "silu"},
                  {"vocab_size", embedding.shape[0]},
                  {"max_position_embeddings", context},
                  {"rms_norm_eps", Number("attention.layer_norm_rms_epsilon")},
                  {"rope_parameters", ReadRope(theta, head_dim)},
                  {"tie_word_embeddings", !tensors_.contains(kGgufHead)},
                  {"attention_bias", !qwen2 && tensors_.contains("blk.0.attn_q.bias")},
                  {"mlp_bias", tensors_.contains("blk.0.ffn_gate.bias")}};
    for (const std::string name : {"bos", "eos"}) {  // which engines look for beside the tokenizer
      const std::string key = "tokenizer.ggml." + name + "_token_id";
      if (keys.Has(key)) config[name + "_token_id"] = keys.Integer(key);
    }
    return config;
  }

  // ---- tensors ---------------------------------------------------------------------------------

  const GgufTensor& At(std::string_view name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      Refuse("tensor is missing", file_.path().string(), "a tensor '" + std::string(name) + "'",
             "none");
    }
    read_.insert(found->second);
    return *found->second;
  }

  const GgufTensor& At(std::string_view name, const std::vector<std::int64_t>& shape) {
    const GgufTensor& tensor = At(name);
    const auto text = [](const std::vector<std::int64_t>& extents) {
      std::string all;
      for (const std::int64_t each : extents)
        all += (all.empty() ? "" : ", ") + std::to_string(each);
      return "[" + all + "]";
    };
    if (tensor.shape != shape) {
      Refuse("shape does not agree with the keys", Where(tensor), text(shape), text(tensor.shape));
    }
    return tensor;
  }

  static std::optional<DType> FloatType(const GgufTensor& tensor) {
    return tensor.type->name == "F32"    ? std::optional(DType::kF32)
           : tensor.type->name == "F16"  ? std::optional(DType::kF16)
           : tensor.type->name == "BF16" ? std::optional(DType::kBF16)
                                         : std::nullopt;
  }

  std::vector<float> Vector(std::string_view name, Index length) {
    const GgufTensor& tensor = At(name, {length});
    const std::optional<DType> type = FloatType(tensor);
    if (!type)
      Refuse("type is not supported here", Where(tensor), "F32, F16 or BF16",
             std::string(tensor.type->name));
    std::vector<float> values(Size(length));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (*type == DType::kF32) {
        std::memcpy(&values[i], tensor.bytes.data() + i * sizeof(float), sizeof(float));
      } else {
        std::uint16_t bits = 0;
        std::memcpy(&bits, tensor.bytes.data() + i * sizeof(bits), sizeof(bits));
        values[i] = *type == DType::kF16 ? ToFloat(F16{bits}) : ToFloat(Bf16{bits});
      }
      if (!std::isfinite(values[i])) {
        Refuse("value is not finite", Where(tensor), "finite numbers",
               std::to_string(values[i]) + " in row 0, column " + std::to_string(i));
      }
    }
    return values;
  }

  /// A view of the mapped bytes, or of a copy where rows move or the bytes lie unaligned.
  template <class T>
  View<const T, 2> FloatView(const GgufTensor& tensor, std::span<const Index> order,
                             std::span<const std::byte>& bytes) {
    const Index rows = tensor.shape[0], cols = tensor.shape[1];
    bytes = tensor.bytes;
    if (order.empty() && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0) {
      return {reinterpret_cast<const T*>(bytes.data()), rows, cols};
    }
    auto copy = std::make_shared<Matrix<T>>(rows, cols);
    const std::size_t row_bytes = Size(cols) * sizeof(T);
    for (Index row = 0; row < rows; ++row) {
      const Index to = order.empty() ? row : order[Size(row)];
      std::memcpy(copy->data() + to * cols, bytes.data() + Size(row) * row_bytes, row_bytes);
    }
    const View<const T, 2> view{copy->data(), rows, cols};
    bytes = std::as_bytes(std::span(view.data(), Size(view.size())));
    weights_.owners.push_back(std::move(copy));
    return view;
  }

  /// name: in a folder, for what reads float tensors by it.
  AnyMatrix Read(std::string_view gguf_name, const std::string& name, Index rows, Index cols,
                 const std::vector<Index>& order = {}) {
    const GgufTensor& tensor = At(gguf_name, {rows, cols});
    const BlockType* type = FindBlockType(tensor.type->name);
    if (type == nullptr) {
      Refuse("type of tensor is not read", Where(tensor), NamesOfBlockTypes(),
             std::string(tensor.type->name));
    }
    if (type->grid) {
      auto matrix =
          std::make_shared<const QMatrix>(DecodeBlocks(*type, tensor, order, Where(tensor)));
      file_.map()->Drop(tensor.bytes);
      return matrix;
    }
    TensorRef ref{
        .name = name, .dtype = *FloatType(tensor), .shape = {rows, cols}, .file = file_.path()};
    AnyMatrix matrix;
    if (ref.dtype == DType::kF32) {
      matrix = FloatView<float>(tensor, order, ref.bytes);
    } else if (ref.dtype == DType::kF16) {
      matrix = FloatView<F16>(tensor, order, ref.bytes);
    } else {
      matrix = FloatView<Bf16>(tensor, order, ref.bytes);
    }
    refs_.push_back(std::move(ref));
    return matrix;
  }

  static std::string NamesOfBlockTypes() {
    std::string names;
    for (const BlockType& each : BlockTypes()) {
      names += (names.empty() ? "" : ", ") + std::string(each.name);
    }
    return names;
  }

  void ReadWeights() {
    const ModelConfig& config = weights_.config;
    weights_.embedding = Read(kGgufEmbedding, std::string(kEmbedding), config.vocab, config.hidden);
    weights_.head = config.tied ? weights_.embedding
                                : Read(kGgufHead, std::string(kHead), config.vocab, config.hidden);
    weights_.final_norm = NamedVector(kGgufFinalNorm, std::string(kFinalNorm), config.hidden);
    for (Index layer = 0; layer < config.layers; ++layer) ReadLayer(layer);
    CheckAllRead();
  }

  /// The same, for what reads float tensors by name too.
  std::vector<float> NamedVector(std::string_view gguf_name, const std::string& name, Index length,
                                 const std::vector<Index>& order = {}) {
    const std::vector<float> read = Vector(gguf_name, length);
    auto values = std::make_shared<std::vector<float>>(read);
    for (std::size_t i = 0; i < order.size(); ++i) (*values)[Size(order[i])] = read[i];
    refs_.push_back({.name = name,
                     .dtype = DType::kF32,
                     .shape = {length},
                     .bytes = std::as_bytes(std::span(*values)),
                     .file = file_.path()});
    weights_.owners.push_back(values);
    return *values;
  }

  void ReadLayer(Index layer) {
    const ModelConfig& config = weights_.config;
    LayerWeights read;
    const auto vector = [&](std::string_view gguf_name, std::string_view name, Index length) {
      return NamedVector(GgufLayerTensor(layer, gguf_name), LayerTensor(layer, name), length);
    };
    read.attention_norm = vector(kGgufAttentionNorm, kAttentionNorm, config.hidden);
    read.mlp_norm = vector(kGgufMlpNorm, kMlpNorm, config.hidden);
    if (config.qk_norm) {
      read.q_norm = vector(kGgufQNorm, kQNorm, config.head_dim);
      read.k_norm = vector(kGgufKNorm, kKNorm, config.head_dim);
    }
    for (const Site site : kAllSites) {
      const std::string module = GgufModule(layer, site), name = ModuleName(layer, site);
      const std::vector<Index> order = GgufRowOrder(config, site);
      Linear& linear = read.At(site);
      linear.weight =
          Read(module + ".weight", name + ".weight", config.Out(site), config.In(site), order);
      quantized_ = quantized_ || std::holds_alternative<Packed>(linear.weight);
      if (config.HasBias(site)) {
        linear.bias = NamedVector(module + ".bias", name + ".bias", config.Out(site), order);
      }
    }
    weights_.layers.push_back(std::move(read));
  }

  void CheckAllRead() const {
    for (const auto& [name, tensor] : tensors_) {
      if (read_.contains(tensor)) continue;
      Refuse("tensor not expected in a " + weights_.config.architecture, file_.path().string(), "",
             Printable(name));
    }
  }

  GgufFile file_;
  std::string architecture_;
  std::map<std::string_view, const GgufTensor*, std::less<>> tensors_;
  std::set<const GgufTensor*> read_;
  std::vector<TensorRef> refs_;
  Weights weights_;
  std::vector<std::string> notes_;
  bool quantized_ = false;
};

}  // namespace

bool IsGguf(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return path.extension() == ".gguf" || std::string_view(magic.data(), magic.size()) == "GGUF";
}

ModelFolder OpenGguf(const std::filesystem::path& path) {
  return Reader(path).Read();
}

}  // namespace lieq
