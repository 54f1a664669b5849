#include "lieq/container/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "lieq/container/ggml_blocks.h"
#include "lieq/container/tensor_names.h"

namespace lieq {
namespace {

using Packed = std::shared_ptr<const QMatrix>;

bool SameBits(float a, float b) noexcept {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}
/// Zeros of either sign are one number: a container may hold codes mirrored about zero.
bool SameNumber(float a, float b) noexcept {
  return a == b || SameBits(a, b);
}

/// Shortest text that reads back as the same float.
std::string Text(float value) {
  return fmt::format("{}", value);
}

/// Entries of two matrices that are not the same: how many, and the first in the order of rows.
template <class T>
struct Others {
  std::int64_t count = 0;
  Index row = -1, col = -1;
  T expected{}, found{};

  void Add(Index r, Index c, T x, T y) {
    if (count++ > 0) return;
    row = r, col = c, expected = x, found = y;
  }
  /// Those of rows behind these.
  void Append(const Others& next) {
    const std::int64_t all = count + next.count;
    if (count == 0) *this = next;
    count = all;
  }
};

}  // namespace

struct ModelComparer::State {
  State(RoundedMatrices rounded, ThreadPool* pool) : rounded_(rounded), pool_(pool) {}

  void Report(std::string_view kind, const std::string& tensor, Index row, Index col,
              const std::string& expected, const std::string& found) {
    ReportAll(kind, tensor, row, col, 1, [&] { return std::pair(expected, found); });
  }
  /// count of them, of which the first is at row and col. texts(): what was expected there and what
  /// was found. It is called for the first of a kind alone: a trained model has billions.
  template <class Texts>
  void ReportAll(std::string_view kind, const std::string& tensor, Index row, Index col,
                 std::int64_t count, const Texts& texts) {
    auto& all = result_.differences;
    auto same = std::ranges::find(all, kind, &Difference::kind);
    if (same == all.end()) {
      auto [expected, found] = texts();
      all.push_back({.kind = std::string(kind),
                     .tensor = tensor,
                     .row = row,
                     .col = col,
                     .expected = std::move(expected),
                     .found = std::move(found)});
      same = all.end() - 1;
    }
    same->count += count;
  }
  template <class T>
  void ReportAll(std::string_view kind, const std::string& tensor, const Others<T>& others) {
    if (others.count == 0) return;
    ReportAll(kind, tensor, others.row, others.col, others.count, [&] {
      if constexpr (std::is_floating_point_v<T>) {
        return std::pair(Text(others.expected), Text(others.found));
      } else {
        return std::pair(std::to_string(others.expected), std::to_string(others.found));
      }
    });
  }

  void Configuration(const ModelConfig& a, const ModelConfig& b) {
    const auto text = [&](std::string_view key, const std::string& x, const std::string& y) {
      if (x != y) Report("configuration", std::string(key), -1, -1, x, y);
    };
    const auto number = [&](std::string_view key, double x, double y) {
      text(key, Text(static_cast<float>(x)), Text(static_cast<float>(y)));
    };
    const auto extent = [&](std::string_view key, Index x, Index y) {
      text(key, std::to_string(x), std::to_string(y));
      shapes_agree_ = shapes_agree_ && x == y;
    };
    const auto option = [&](std::string_view key, bool x, bool y) {
      text(key, x ? "true" : "false", y ? "true" : "false");
      shapes_agree_ = shapes_agree_ && x == y;
    };
    text("architecture", a.architecture, b.architecture);
    extent("layers", a.layers, b.layers);
    extent("hidden", a.hidden, b.hidden);
    extent("intermediate", a.intermediate, b.intermediate);
    extent("heads", a.heads, b.heads);
    extent("kv_heads", a.kv_heads, b.kv_heads);
    extent("head_dim", a.head_dim, b.head_dim);
    extent("vocabulary", a.vocab, b.vocab);
    option("tied_head", a.tied, b.tied);
    option("bias of q, k and v", a.qkv_bias, b.qkv_bias);
    option("bias of o", a.o_bias, b.o_bias);
    option("bias of the MLP", a.mlp_bias, b.mlp_bias);
    option("norms of queries and keys", a.qk_norm, b.qk_norm);
    text("max_positions", std::to_string(a.max_positions), std::to_string(b.max_positions));
    number("rms_eps", a.rms_eps, b.rms_eps);
    number("embedding_multiplier", a.embedding_multiplier, b.embedding_multiplier);
    number("attention_multiplier", a.attention_multiplier, b.attention_multiplier);
    number("residual_multiplier", a.residual_multiplier, b.residual_multiplier);
    number("logits_scaling", a.logits_scaling, b.logits_scaling);
    option("fused linears", a.fused_qkv || a.fused_gate_up, b.fused_qkv || b.fused_gate_up);
    option("gates of attention", a.gated_attention, b.gated_attention);
    option("norms of whole rows", a.whole_qk_norm, b.whole_qk_norm);
    option("norms behind the rotation", a.late_qk_norm, b.late_qk_norm);
    extent("place of norms", static_cast<Index>(a.norms), static_cast<Index>(b.norms));
    extent("activation", static_cast<Index>(a.activation), static_cast<Index>(b.activation));
    extent("rotated dimensions", a.RotaryDim(), b.RotaryDim());
    extent("key heads of the delta rule", a.delta.key_heads, b.delta.key_heads);
    extent("value heads of the delta rule", a.delta.value_heads, b.delta.value_heads);
    extent("key head of the delta rule", a.delta.key_dim, b.delta.key_dim);
    extent("value head of the delta rule", a.delta.value_dim, b.delta.value_dim);
    extent("width of the convolution", a.conv_kernel, b.conv_kernel);
    option("bias of the convolution", a.conv_bias, b.conv_bias);
    extent("experts of a layer", a.experts.count, b.experts.count);
    extent("experts of a token", a.experts.used, b.experts.used);
    extent("width of an expert", a.experts.inner, b.experts.inner);
    option("normalised experts", a.experts.normalised, b.experts.normalised);
    number("bound of queries, keys and values", a.qkv_clip, b.qkv_clip);
    number("cap of attention", a.attention_cap, b.attention_cap);
    number("cap of logits", a.logit_cap, b.logit_cap);
    number("temperature", a.temperature, b.temperature);
    number("context of the temperature", a.temperature_context, b.temperature_context);
    for (Index layer = 0; layer < std::min(a.layers, b.layers); ++layer) {
      const LayerShape of_a = a.Shape(layer), of_b = b.Shape(layer);
      if (of_a == of_b) continue;
      extent(fmt::format("window of layer {}", layer), of_a.window, of_b.window);
      option(fmt::format("rotation of layer {}", layer), of_a.rotates, of_b.rotates);
      option(fmt::format("experts of layer {}", layer), of_a.experts, of_b.experts);
      option(fmt::format("rope of layer {}", layer), of_a.local_rope, of_b.local_rope);
      extent(fmt::format("mixer of layer {}", layer), static_cast<Index>(of_a.mixer),
             static_cast<Index>(of_b.mixer));
      break;  // one speaks for all
    }
    RopeOf("rope", a.rope, b.rope);
    option("a rope of windows", a.local_rope.has_value(), b.local_rope.has_value());
    if (a.local_rope && b.local_rope) RopeOf("rope of windows", *a.local_rope, *b.local_rope);
  }

  void RopeOf(const std::string& which, const Rope& a, const Rope& b) {
    const auto number = [&](std::string_view key, double x, double y) {
      const std::string left = Text(static_cast<float>(x)), right = Text(static_cast<float>(y));
      if (left != right) Report("configuration", which + std::string(key), -1, -1, left, right);
    };
    number(" theta", a.theta, b.theta);
    if (a.scaling != b.scaling) {
      Report("configuration", which + " type", -1, -1, std::string(Name(a.scaling)),
             std::string(Name(b.scaling)));
    }
    if (a.scaling != b.scaling || a.scaling == RopeScaling::kNone) return;
    number(" factor", a.factor, b.factor);
    number(" beta_fast", a.beta_fast, b.beta_fast);
    number(" beta_slow", a.beta_slow, b.beta_slow);
    number(" attention_factor", a.attention_factor, b.attention_factor);
    number(" low_freq_factor", a.low_freq_factor, b.low_freq_factor);
    number(" high_freq_factor", a.high_freq_factor, b.high_freq_factor);
    number(" original context", a.original_context, b.original_context);
    for (const auto& [key, x, y] :
         {std::tuple{" short factors", &a.short_factors, &b.short_factors},
          {" long factors", &a.long_factors, &b.long_factors}}) {
      number(std::string(key) + " counted", static_cast<double>(x->size()),
             static_cast<double>(y->size()));
      for (std::size_t i = 0; i < std::min(x->size(), y->size()); ++i) {
        number(key, (*x)[i], (*y)[i]);
      }
    }
  }

  void Vectors(std::string_view kind, const std::string& tensor, const std::vector<float>& a,
               const std::vector<float>& b) {
    if (a.size() != b.size()) {
      Report(kind, tensor, -1, -1, fmt::format("{} values", a.size()),
             fmt::format("{} values", b.size()));
      return;
    }
    Others<float> others;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!SameNumber(a[i], b[i])) others.Add(0, static_cast<Index>(i), a[i], b[i]);
    }
    ReportAll(kind, tensor, others);
  }

  void Ends(const Weights& a, const Weights& b) {
    const bool rounded = rounded_ != RoundedMatrices::kNone;
    MatrixPair(std::string(kEmbeddingModule), a.embedding, b.embedding, rounded);
    a.Release(a.embedding);
    b.Release(b.embedding);
    if (!a.config.tied) MatrixPair(std::string(kHeadModule), a.head, b.head, rounded);
    Vectors("norms", FinalNorm(a.config), a.final_norm, b.final_norm);
  }

  void Layer(const ModelConfig& config, Index layer, const LayerWeights& a, const LayerWeights& b) {
    for (const LayerVectorRow& row : LayerVectorRows()) {
      Vectors("norms", LayerTensor(config, layer, row.which), a.*row.values, b.*row.values);
    }
    for (const Site site : config.Sites(layer)) {
      const std::string module = ModuleName(config, layer, site);
      ++result_.linears;
      const bool rounded = rounded_ == RoundedMatrices::kAll;
      if (MatrixPair(module, a.At(site).weight, b.At(site).weight, rounded)) ++result_.same_grids;
      Vectors("biases", module + ".bias", a.At(site).bias, b.At(site).bias);
    }
  }

  /// Whether codes, scales and offsets were compared, or the very bytes of floats.
  bool MatrixPair(const std::string& module, const AnyMatrix& a, const AnyMatrix& b, bool rounded) {
    result_.values += Rows(a) * Cols(a);
    const Packed *left = std::get_if<Packed>(&a), *right = std::get_if<Packed>(&b);
    const auto columns = [](const Packed& each) { return each->group_columns(); };
    Grid same{};
    if (left != nullptr && right != nullptr) {
      same = (*right)->grid();
      same.group_size = (*left)->grid().group_size;  // 0 and the length of a row mean the same
    }
    if (left != nullptr && right != nullptr && same == (*left)->grid() &&
        columns(*left) == columns(*right)) {
      if (!PackedPair(module, **left, **right)) {
        const std::int64_t before = result_.CountOf("values");
        Values(module, a, b);
        result_.explained += result_.CountOf("values") - before;
      }
      return true;
    }
    const bool floats = left == nullptr && right == nullptr && a.index() == b.index();
    if (floats && SameFloats(a, b)) return true;
    const BlockType* type = rounded && !floats ? RoundedTypeOf(b) : nullptr;
    if (type != nullptr && (right == nullptr || Holds(*type, **right)) &&
        OtherValues(a, b).count > 0) {
      RoundedPair(module, a, b, *type);
    } else {
      Values(module, a, b);
    }
    return floats;
  }

  /// b lies in `type`: whether its rows are those of a, rounded.
  void RoundedPair(const std::string& module, const AnyMatrix& a, const AnyMatrix& b,
                   const BlockType& type) {
    const Index rows = Rows(a), cols = Cols(a);
    const auto* packed = std::get_if<Packed>(&b);
    const std::size_t bytes = RowBytes(type.type(), cols);
    Matrix<float> values(1, cols);
    std::vector<std::byte> expected(bytes), found(bytes);
    std::vector<std::uint8_t> codes(packed != nullptr ? Size(cols) : 0);
    bool equal = true;
    for (Index row = 0; row < rows; ++row) {
      WidenRows(a, row, values.view());
      const bool finite = type.round(values.view().Row(0), expected);
      if (packed != nullptr) {
        (*packed)->GetRow(row, codes);
        type.encode(**packed, row, codes, found);
      } else {
        std::ranges::copy(MappedBytes(b).subspan(Size(row) * bytes, bytes), found.begin());
      }
      if (finite && expected == found) continue;
      equal = false;
      const auto at = std::ranges::mismatch(expected, found).in1 - expected.begin();
      const Index col = at / type.type().bytes * type.type().columns;
      Report("rounding", module, row, col, fmt::format("the row rounded to {}", type.name),
             "other values");
    }
    if (equal) ++result_.rounded[std::string(type.name)];
  }

  static bool SameFloats(const AnyMatrix& a, const AnyMatrix& b) {
    const std::span<const std::byte> x = MappedBytes(a), y = MappedBytes(b);
    return !x.empty() && x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size()) == 0;
  }

  /// Whether all is the same, bit for bit.
  bool PackedPair(const std::string& module, const QMatrix& a, const QMatrix& b) {
    const std::int64_t before = result_.count();
    if (!std::ranges::equal(a.words(), b.words())) Codes(module, a, b);
    Floats("scales", module, a.scales(), b.scales());
    Floats("minima", module, a.minima(), b.minima());
    Others<int> zeros;
    for (Index row = 0; row < a.zeros().rows(); ++row) {
      for (Index group = 0; group < a.groups(); ++group) {
        const int x = a.zeros()(row, group), y = b.zeros()(row, group);
        if (x != y) zeros.Add(row, group, x, y);
      }
    }
    ReportAll("zero-points", module, zeros);
    for (Index row = 0; row < a.rows(); ++row) {
      for (Index block = 0; block < a.supers(); ++block) {
        Supers(module, row, block, a.Super(row, block), b.Super(row, block));
      }
    }
    return result_.count() == before;
  }

  void Codes(const std::string& module, const QMatrix& a, const QMatrix& b) {
    ReportAll("codes", module, OfBlocks<int>(a.rows(), [&](Index begin, Index count) {
                Others<int> others;
                std::vector<std::uint8_t> x(Size(a.cols())), y(Size(a.cols()));
                for (Index row = begin; row < begin + count; ++row) {
                  a.GetRow(row, x);
                  b.GetRow(row, y);
                  if (x == y) continue;
                  for (std::size_t i = 0; i < x.size(); ++i) {
                    if (x[i] != y[i]) others.Add(row, static_cast<Index>(i), x[i], y[i]);
                  }
                }
                return others;
              }));
  }

  void Floats(std::string_view kind, const std::string& module, View<const float, 2> a,
              View<const float, 2> b) {
    Others<float> others;
    for (Index row = 0; row < a.rows(); ++row) {
      for (Index group = 0; group < a.cols(); ++group) {
        const float x = a(row, group), y = b(row, group);
        if (!SameBits(x, y)) others.Add(row, group, x, y);
      }
    }
    ReportAll(kind, module, others);
  }

  void Supers(const std::string& module, Index row, Index block, const SuperBlock& a,
              const SuperBlock& b) {
    if (SameBits(a.d, b.d) && SameBits(a.dmin, b.dmin) && a.scales == b.scales &&
        a.minima == b.minima) {
      return;
    }
    const auto text = [](const SuperBlock& super) {
      return fmt::format("d {}, dmin {}, factors {} and {}", super.d, super.dmin,
                         fmt::join(super.scales, " "), fmt::join(super.minima, " "));
    };
    const bool same_factors = a.scales == b.scales && a.minima == b.minima;
    Report(same_factors ? "super-blocks" : "factors", module, row, block, text(a), text(b));
  }

  static constexpr Index kBlock = 64;  // rows

  /// What compare(begin, count) finds in blocks of rows, put together in their order.
  template <class T, class Compare>
  Others<T> OfBlocks(Index rows, const Compare& compare) {
    std::vector<Others<T>> found(Size(CeilDiv(rows, kBlock)));
    const auto block = [&](Index i) {
      found[Size(i)] = compare(i * kBlock, std::min(kBlock, rows - i * kBlock));
    };
    const auto blocks = static_cast<Index>(found.size());
    if (pool_ != nullptr) {
      pool_->ParallelFor(blocks, [&](Index i, int) { block(i); });
    } else {
      for (Index i = 0; i < blocks; ++i) block(i);
    }
    Others<T> all;
    for (const Others<T>& each : found) all.Append(each);
    return all;
  }

  Others<float> OtherValues(const AnyMatrix& a, const AnyMatrix& b) {
    return OfBlocks<float>(Rows(a), [&](Index begin, Index count) {
      Others<float> others;
      const Index cols = Cols(a);
      Matrix<float> x(count, cols), y(count, cols);
      WidenRows(a, begin, x.view());
      WidenRows(b, begin, y.view());
      for (Index row = 0; row < count; ++row) {
        for (Index col = 0; col < cols; ++col) {
          if (SameNumber(x(row, col), y(row, col))) continue;
          others.Add(begin + row, col, x(row, col), y(row, col));
        }
      }
      return others;
    });
  }

  void Values(const std::string& module, const AnyMatrix& a, const AnyMatrix& b) {
    ReportAll("values", module, OtherValues(a, b));
  }

  RoundedMatrices rounded_;
  ThreadPool* pool_;  // null: there is none
  Comparison result_;
  bool shapes_agree_ = true;
};

ModelComparer::ModelComparer(RoundedMatrices rounded, ThreadPool* pool)
    : state_(std::make_unique<State>(rounded, pool)) {}
ModelComparer::~ModelComparer() = default;

bool ModelComparer::Configuration(const ModelConfig& expected, const ModelConfig& found) {
  state_->Configuration(expected, found);
  return state_->shapes_agree_;
}

void ModelComparer::Ends(const Weights& expected, const Weights& found) {
  state_->Ends(expected, found);
}

void ModelComparer::Layer(const ModelConfig& config, Index layer, const LayerWeights& expected,
                          const LayerWeights& found) {
  state_->Layer(config, layer, expected, found);
}

Comparison ModelComparer::Take() {
  return std::move(state_->result_);
}

std::int64_t Comparison::count() const noexcept {
  std::int64_t sum = 0;
  for (const Difference& each : differences) sum += each.count;
  return sum;
}

std::int64_t Comparison::CountOf(std::string_view kind) const noexcept {
  const auto found = std::ranges::find(differences, kind, &Difference::kind);
  return found == differences.end() ? 0 : found->count;
}

Comparison CompareModels(const ModelFolder& expected, const ModelFolder& found,
                         RoundedMatrices rounded, ThreadPool* pool) {
  ModelComparer comparer(rounded, pool);
  if (!comparer.Configuration(expected.weights.config, found.weights.config)) {
    return comparer.Take();
  }
  comparer.Ends(expected.weights, found.weights);
  for (Index layer = 0; layer < expected.weights.config.layers; ++layer) {
    comparer.Layer(expected.weights.config, layer, expected.weights.layers[Size(layer)],
                   found.weights.layers[Size(layer)]);
    expected.weights.ReleaseLayer(layer);
    found.weights.ReleaseLayer(layer);
  }
  return comparer.Take();
}

std::string PlaceOf(const Difference& each) {
  if (each.row < 0) return "";
  if (each.kind == "norms" || each.kind == "biases") return fmt::format(", at {}", each.col);
  const bool column = each.kind == "codes" || each.kind == "values";
  const bool of_super = each.kind == "super-blocks" || each.kind == "factors";
  return fmt::format(", row {}, {} {}", each.row,
                     column     ? "column"
                     : of_super ? "super-block"
                                : "group",
                     each.col);
}

}  // namespace lieq
