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
#include "lieq/container/named_tensors.h"
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
    ReadScaling(head_dim, rope);
    const auto found = tensors_.find(kGgufRopeFactors);
    if (found == tensors_.end()) return rope;
    if (rope["rope_type"] != "default") {
      Refuse("rope is scaled twice", Where(*found->second), "factors, or a scaling by keys",
             rope["rope_type"].get<std::string>());
    }
    if (head_dim % 2 != 0) return rope;  // refused with the configuration
    if (head_dim > kMostRopeHead) {
      Refuse("rope factors of heads as large as this are not read", Where(*found->second),
             "heads of at most " + std::to_string(kMostRopeHead), std::to_string(head_dim));
    }
    const std::vector<float> factors = Vector(kGgufRopeFactors, {head_dim / 2});
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

  /// A number by its key, where it is there and not 0.
  [[nodiscard]] double Scaling(std::string_view name, double missing) const {
    const std::string key = "rope.scaling." + std::string(name);
    if (!file_.keys().Has(Key(key))) return missing;
    const double value = Number(key);
    return value != 0 ? value : missing;
  }

  /// The scaling that keys name: without a type llama.cpp takes a factor for a linear one.
  void ReadScaling(std::int64_t head_dim, Record& rope) {
    const GgufKeys& keys = file_.keys();
    const std::string type_key = Key("rope.scaling.type");
    const std::string type = keys.Has(type_key) ? keys.String(type_key) : "linear";
    double factor = Scaling("factor", 1);
    if (factor == 1 && keys.Has(Key("rope.scale_linear"))) factor = Number("rope.scale_linear");
    if (factor == 0) factor = 1;
    const std::string attention = Key("rope.scaling.attn_factor");
    const double magnitude = keys.Has(attention) ? Number("rope.scaling.attn_factor") : 1;
    const auto refuse = [&](const std::string& key, std::string expected, std::string found) {
      Refuse("option is not supported for " + architecture_, keys.Where(key), std::move(expected),
             std::move(found));
    };
    if (factor < 1) {
      refuse(
          Key(keys.Has(Key("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear"),
          "absent, 0, or at least 1", std::to_string(factor));
    }
    if (type == "yarn") {
      double own = factor > 1 ? 0.1 * std::log(factor) + 1.0 : 1.0;
      if (const double apart = Scaling("yarn_log_multiplier", 0); apart != 0 && factor > 1) {
        own /= 0.1 * apart * std::log(factor) + 1.0;
      }
      rope["rope_type"] = "yarn";
      rope["factor"] = factor;
      rope["original_max_position_embeddings"] =
          Integer("rope.scaling.original_context_length", Integer("context_length"));
      rope["beta_fast"] = Scaling("yarn_beta_fast", 32);
      rope["beta_slow"] = Scaling("yarn_beta_slow", 1);
      rope["attention_factor"] = magnitude * own;
      return;
    }
    if (type == "longrope" && architecture_ == "phi3") {
      rope["rope_type"] = "longrope";
      rope["original_max_position_embeddings"] =
          Integer("rope.scaling.original_context_length", Integer("context_length"));
      rope["attention_factor"] = magnitude;
      const std::int64_t dims = Integer("rope.dimension_count", head_dim);
      for (const auto& [name, key] : {std::pair{kGgufLongFactors, "long_factor"},
                                      std::pair{kGgufShortFactors, "short_factor"}}) {
        const std::vector<float> factors = Vector(name, {dims / 2});
        Record list = Record::array();
        for (const float each : factors) list.push_back(Decimal(static_cast<double>(each)));
        rope[key] = std::move(list);
      }
      return;
    }
    if (type != "linear" && type != "none") {
      refuse(type_key, "none, linear, yarn, or longrope of phi3", Printable(type));
    }
    if (magnitude != 1) refuse(attention, "absent or 1", std::to_string(magnitude));
    if (factor == 1) return;
    if (type == "none") refuse(type_key, "linear, where there is a factor", "none");
    rope["rope_type"] = "linear";
    rope["factor"] = factor;
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

  /// The architecture's row, or that of the class which a key of our own names.
  [[nodiscard]] const Architecture* RowOf(std::string_view name) const {
    const GgufKeys& keys = file_.keys();
    if (keys.Has(kGgufClass)) {
      const Architecture* row = FindArchitecture(keys.String(kGgufClass));
      if (row != nullptr && row->gguf_name == name) return row;
    }
    // Olmo 3 is Olmo 2 with windows there.
    if (name == "olmo2" && Integer("attention.sliding_window", 0) > 0) {
      return FindArchitecture("Olmo3ForCausalLM");
    }
    return FindGgufName(name);
  }

  /// What some architectures have beside the keys of all.
  void AddOwnKeys(const Architecture& row, Record& config) const {
    const GgufKeys& keys = file_.keys();
    if (row.multiplies) {
      const auto factor = [&](const char* key, const char* name, double missing) {
        const double value = keys.Has(Key(key)) ? Number(key) : 0;  // 0 is as good as none
        config[name] = value != 0 ? value : missing;
      };
      factor("embedding_scale", "embedding_multiplier", 1);
      factor("residual_scale", "residual_multiplier", 1);
      factor("logit_scale", "logits_scaling", 1);
      const double dim = config["head_dim"].get<double>();
      factor("attention.scale", "attention_multiplier", 1 / std::sqrt(dim));
    }
    if (row.windows == WindowRule::kAll) {
      const std::int64_t window = Integer("attention.sliding_window", 0);
      config["sliding_window"] = window > 0 ? Record(window) : Record();
    }
    if (row.partial_rotary) {
      const double dims = static_cast<double>(
          Integer("rope.dimension_count", config["head_dim"].get<std::int64_t>()));
      Record& rope = config["rope_parameters"];
      rope["partial_rotary_factor"] = dims / config["head_dim"].get<double>();
      constexpr const char* kContext = "original_max_position_embeddings";
      if (rope.contains(kContext)) config[kContext] = rope[kContext];  // as Phi-3 has it
    }
    if (row.windows == WindowRule::kPattern) AddWindowKeys(row, config);
    if (row.gemma) AddGemmaKeys(row, config);
    if (row.tempered) {
      config["rope_parameters"]["llama_4_scaling_beta"] =
          keys.Has(Key("attention.temperature_scale")) ? Number("attention.temperature_scale")
                                                       : 0.0;
    }
    if (row.experts.count > 0) AddExpertKeys(row, config);
    if (row.mixer == Mixer::kGatedDelta) AddDeltaKeys(config);
    if (row.mixer == Mixer::kShortConv) AddShortConvKeys(config);
  }

  void AddExpertKeys(const Architecture& row, Record& config) const {
    const std::int64_t used = Integer("expert_used_count");
    config["num_experts"] = Integer("expert_count");
    config["num_experts_per_tok"] = used;
    config["norm_topk_prob"] = row.dense_between;  // as llama.cpp has it of either architecture
    if (!row.dense_between) return;
    config["moe_intermediate_size"] =
        Integer("expert_feed_forward_length",
                config["intermediate_size"].get<std::int64_t>() / std::max<std::int64_t>(used, 1));
  }

  void AddGemmaKeys(const Architecture& row, Record& config) const {
    const GgufKeys& keys = file_.keys();
    config.erase("hidden_act");
    config["hidden_activation"] = "gelu_pytorch_tanh";
    const auto dim = config["head_dim"].get<std::int64_t>();
    const auto layers = config["num_hidden_layers"].get<std::int64_t>();
    // The models of 27B are told by their layers; all others divide by the root of a head's size.
    const bool largest = layers == (row.attention_cap != 0 ? 46 : 62);
    config["query_pre_attn_scalar"] =
        largest ? config["hidden_size"].get<std::int64_t>() /
                      std::max<std::int64_t>(config["num_attention_heads"].get<std::int64_t>(), 1)
                : dim;
    const auto cap = [&](const char* key, double missing) {
      const double value = keys.Has(Key(key)) ? Number(key) : missing;
      config[key] = value != 0 ? Record(value) : Record();
    };
    if (row.attention_cap != 0) cap("attn_logit_softcapping", row.attention_cap);
    cap("final_logit_softcapping", row.logit_cap);
  }

  /// Which layers have a window: by a list, or all but every n-th.
  void AddWindowKeys(const Architecture& row, Record& config) const {
    const GgufKeys& keys = file_.keys();
    const auto layers = config["num_hidden_layers"].get<std::int64_t>();
    const bool always = row.gguf_name == "gemma2";  // at 4096 where no key says it
    std::int64_t window = Integer("attention.sliding_window", always ? 4096 : 0);
    // llama.cpp gives windows to the one size of EXAONE 4 that has them.
    if (row.unrotated_beyond_windows && layers != 64) window = 0;
    const std::string key = Key("attention.sliding_window_pattern");
    std::vector<double> pattern = keys.Has(key) ? keys.Numbers(key) : std::vector<double>{};
    const double every = pattern.size() == 1 ? pattern[0] : static_cast<double>(row.window_pattern);
    if (pattern.size() > 1 && static_cast<std::int64_t>(pattern.size()) < layers) {
      Refuse("not a value for each layer", keys.Where(key), std::to_string(layers),
             std::to_string(pattern.size()));
    }
    Record types = Record::array();
    for (std::int64_t i = 0; i < std::min<std::int64_t>(layers, 4096); ++i) {
      const auto n = static_cast<std::int64_t>(every);
      const bool slides = pattern.size() > 1 ? pattern[Size(i)] != 0 : n < 1 || (i + 1) % n != 0;
      types.push_back(window > 0 && slides ? "sliding_attention" : "full_attention");
    }
    config["sliding_window"] = window > 0 ? Record(window) : Record();
    config["layer_types"] = std::move(types);
    if (!row.ropes_by_type) return;
    const double theta = config["rope_parameters"]["rope_theta"].get<double>();
    const bool own = row.gemma;  // Olmo 3 turns all layers by one theta there
    Record full = config["rope_parameters"];
    Record sliding{{"rope_type", "default"}, {"rope_theta", own ? 10000.0 : theta}};
    if (own && keys.Has(Key("rope.freq_base_swa"))) {
      sliding["rope_theta"] = Number("rope.freq_base_swa");
    }
    config["rope_parameters"] =
        Record{{"full_attention", std::move(full)}, {"sliding_attention", std::move(sliding)}};
  }

  void AddShortConvKeys(Record& config) const {
    const GgufKeys& keys = file_.keys();
    config["norm_eps"] = config["rms_norm_eps"];
    config.erase("rms_norm_eps");
    config["conv_L_cache"] = Integer("shortconv.l_cache");
    config["block_auto_adjust_ff_dim"] = false;
    const std::vector<std::int64_t> heads = keys.Integers(Key("attention.head_count_kv"));
    const auto layers = config["num_hidden_layers"].get<std::int64_t>();
    if (static_cast<std::int64_t>(heads.size()) < layers) {
      Refuse("not a value for each layer", keys.Where(Key("attention.head_count_kv")),
             std::to_string(layers), std::to_string(heads.size()));
    }
    Record types = Record::array();
    std::int64_t most = 0;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(layers, 4096); ++i) {
      types.push_back(heads[Size(i)] == 0 ? "conv" : "full_attention");
      most = std::max(most, heads[Size(i)]);
      if (heads[Size(i)] != 0 && heads[Size(i)] != most) {
        Refuse("layers that differ are not supported", keys.Where(Key("attention.head_count_kv")),
               "0 or one number", std::to_string(heads[Size(i)]));
      }
    }
    config["layer_types"] = std::move(types);
    config["num_key_value_heads"] =
        most > 0 ? most : config["num_attention_heads"].get<std::int64_t>();
  }

  void AddDeltaKeys(Record& config) const {
    const GgufKeys& keys = file_.keys();
    const std::int64_t heads = Integer("ssm.time_step_rank");
    config["linear_conv_kernel_dim"] = Integer("ssm.conv_kernel");
    config["linear_key_head_dim"] = Integer("ssm.state_size");
    config["linear_num_key_heads"] = Integer("ssm.group_count");
    config["linear_num_value_heads"] = heads;
    config["linear_value_head_dim"] = Integer("ssm.inner_size") / std::max<std::int64_t>(heads, 1);
    const std::int64_t layers = config["num_hidden_layers"].get<std::int64_t>();
    const std::int64_t every = Integer("full_attention_interval", 4);
    std::vector<double> recurrent;
    if (keys.Has(Key("attention.recurrent_layers"))) {
      recurrent = keys.Numbers(Key("attention.recurrent_layers"));
      if (static_cast<std::int64_t>(recurrent.size()) < layers) {
        Refuse("not a value for each layer", keys.Where(Key("attention.recurrent_layers")),
               std::to_string(layers), std::to_string(recurrent.size()));
      }
    }
    Record types = Record::array();
    for (std::int64_t i = 0; i < std::min<std::int64_t>(layers, 4096); ++i) {
      const bool recurs =
          recurrent.empty() ? every < 1 || (i + 1) % every != 0 : recurrent[Size(i)] != 0;
      types.push_back(recurs ? "linear_attention" : "full_attention");
    }
    config["layer_types"] = std::move(types);
  }

  /// config.json of the model that the keys and tensors describe.
  Record ReadConfig() {
    const GgufKeys& keys = file_.keys();
    architecture_ = keys.String("general.architecture");
    const Architecture* row = RowOf(architecture_);
    if (row == nullptr) {
      std::string names;
      for (const Architecture& each : Architectures()) {
        if (each.gguf_name.empty() || FindGgufName(each.gguf_name) != &each) continue;
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
    Record config{
        {"architectures", Record::array({row->name})},
        {"model_type", row->model_type},
        {"hidden_size", hidden},
        {"intermediate_size", Integer("feed_forward_length")},
        {"num_hidden_layers", Integer("block_count")},
        {"num_attention_heads", heads},
        {"num_key_value_heads",
         row->mixer == Mixer::kShortConv ? heads : Integer("attention.head_count_kv", heads)},
        {"head_dim", head_dim},
        {"hidden_act", "silu"},
        {"vocab_size", embedding.shape[0]},
        {"max_position_embeddings", context},
        {"rms_norm_eps", Number("attention.layer_norm_rms_epsilon")},
        {"rope_parameters", ReadRope(theta, head_dim)},
        {"tie_word_embeddings", !tensors_.contains(kGgufHead)},
        {"attention_bias", !qwen2 && tensors_.contains("blk.0.attn_q.bias")},
        {"mlp_bias", tensors_.contains("blk.0.ffn_gate.bias")}};
    AddOwnKeys(*row, config);
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

  std::vector<float> Vector(std::string_view name, const std::vector<std::int64_t>& shape) {
    const GgufTensor& tensor = At(name, shape);
    const std::optional<DType> type = FloatType(tensor);
    Index length = 1;
    for (const std::int64_t extent : shape) length *= extent;
    if (const BlockType* block = FindBlockType(tensor.type->name);
        !type && shape.size() == 2 && block != nullptr) {
      const QMatrix codes = DecodeBlocks(*block, tensor, {}, Where(tensor));
      Matrix<float> wide(codes.rows(), codes.cols());
      codes.Dequantize(0, wide.view());
      return {wide.data(), wide.data() + wide.size()};
    }
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
    return MatrixOf(At(gguf_name, {rows, cols}), name, order);
  }

  /// The experts of a layer, which lie in one tensor of three dimensions.
  AnyMatrix Experts(Index layer, Site site) {
    const ModelConfig& config = weights_.config;
    const Index count = config.experts.count, rows = config.Out(layer, site) / count,
                cols = config.In(layer, site);
    GgufTensor all = At(GgufModule(config, layer, site) + ".weight", {count, rows, cols});
    all.shape = {count * rows, cols};
    AnyMatrix matrix = MatrixOf(all, {}, {});
    if (std::holds_alternative<Packed>(matrix)) return matrix;
    const TensorRef stacked = std::move(refs_.back());  // each by its name, as a folder has them
    refs_.pop_back();
    const std::size_t bytes = stacked.bytes.size() / Size(count);
    for (Index part = 0; part < count; ++part) {
      TensorRef one = stacked;
      one.name = ModuleName(config, layer, site, part) + ".weight";
      one.shape = {rows, cols};
      one.bytes = stacked.bytes.subspan(Size(part) * bytes, bytes);
      refs_.push_back(std::move(one));
    }
    return matrix;
  }

  AnyMatrix MatrixOf(const GgufTensor& tensor, const std::string& name,
                     const std::vector<Index>& order) {
    const Index rows = tensor.shape[0], cols = tensor.shape[1];
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
    weights_.final_norm = NamedVector(GgufFinalNorm(config), FinalNorm(config), config.hidden, {},
                                      HeldAs::kLessOffset);
    for (Index layer = 0; layer < config.layers; ++layer) ReadLayer(layer);
    CheckAllRead();
  }

  /// The same, for what reads float tensors by name too.
  std::vector<float> NamedVector(std::string_view gguf_name, const std::string& name, Index length,
                                 const std::vector<Index>& order = {},
                                 HeldAs stored = HeldAs::kAsIs) {
    const std::vector<float> read = Vector(gguf_name, {length});
    std::vector<float> values = read;
    for (std::size_t i = 0; i < order.size(); ++i) values[Size(order[i])] = read[i];
    Keep(name, {length}, values, stored);
    return values;
  }

  /// Holds the values as a folder would.
  void Keep(const std::string& name, std::vector<std::int64_t> shape,
            const std::vector<float>& values, HeldAs stored) {
    const auto held =
        std::make_shared<std::vector<float>>(AsStored(values, stored, weights_.config));
    refs_.push_back({.name = name,
                     .dtype = DType::kF32,
                     .shape = std::move(shape),
                     .bytes = std::as_bytes(std::span(*held)),
                     .file = file_.path()});
    weights_.owners.push_back(held);
  }

  /// One of a layer's vectors, as the model has it: norms of GGUF are whole.
  std::vector<float> LayerVectorOf(Index layer, const LayerVectorRow& row) {
    const ModelConfig& config = weights_.config;
    const auto [rows, cols] = ShapeOf(config, config.Shape(layer), row.which);
    const std::vector<std::int64_t> held = LayerTensorShape(config, layer, row.which);
    const bool matrix = held.size() > 1;
    const std::vector<float> read =
        Vector(GgufVector(config, layer, row.which),
               matrix ? std::vector<std::int64_t>{rows, cols} : std::vector<std::int64_t>{cols});
    const std::vector<Index> order = GgufVectorOrder(config, row.which);
    const std::size_t width = matrix ? Size(cols) : 1;
    const float sign = row.which == LayerVector::kDeltaDecay ? -1.0f : 1.0f;
    std::vector<float> values(read.size());
    for (std::size_t i = 0; i < read.size(); ++i) {
      const std::size_t at = i / width;
      const std::size_t to = order.empty() ? at : Size(order[at]);
      values[to * width + i % width] = sign * read[i];
    }
    Keep(LayerTensor(config, layer, row.which), held, values, row.stored);
    return values;
  }

  void ReadLayer(Index layer) {
    const ModelConfig& config = weights_.config;
    LayerWeights read;
    const LayerShape shape = config.Shape(layer);
    for (const LayerVectorRow& row : LayerVectorRows()) {
      if (!Has(config, shape, row.which)) continue;
      read.*row.values = LayerVectorOf(layer, row);
    }
    for (const Site site : config.Sites(shape)) {
      const std::string module = GgufModule(config, layer, site),
                        name = ModuleName(config, layer, site);
      const std::vector<Index> order = GgufRowOrder(config, layer, site);
      Linear& linear = read.At(site);
      if (config.IsOfExperts(shape, site)) {
        linear.weight = Experts(layer, site);
        quantized_ = quantized_ || std::holds_alternative<Packed>(linear.weight);
        continue;
      }
      linear.weight = Read(module + ".weight", name + ".weight", config.Out(shape, site),
                           config.In(shape, site), order);
      if (const std::vector<Index> columns = GgufColumnOrder(config, layer, site);
          !columns.empty()) {
        MoveColumns(columns, file_.path().string() + ": " + module, linear.weight);
      }
      quantized_ = quantized_ || std::holds_alternative<Packed>(linear.weight);
      if (config.HasBias(shape, site)) {
        linear.bias = NamedVector(module + ".bias", name + ".bias", config.Out(shape, site), order);
      }
    }
    weights_.layers.push_back(std::move(read));
  }

  /// Puts the columns of what was read last where they belong.
  void MoveColumns(const std::vector<Index>& columns, const std::string& place, AnyMatrix& matrix) {
    matrix = MovedColumns(matrix, Undone(columns), place, weights_.owners);
    if (!std::holds_alternative<Packed>(matrix)) refs_.back().bytes = MappedBytes(matrix);
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
