#include "lieq/tune/tuned_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/model/layer_vectors.h"

namespace lieq {
namespace {

constexpr float kLargestHalf = 65504, kLeastHalf = 0x1p-24f;

float RoundHalf(float value, float least) noexcept {
  return ToFloat(ToF16(std::clamp(value, least, kLargestHalf)));
}

/// Norms among the vectors of a layer: what else it holds beside linears stays.
constexpr std::array kNorms{LayerVector::kAttentionNorm, LayerVector::kMlpNorm, LayerVector::kQNorm,
                            LayerVector::kKNorm};

std::vector<float>& VectorOf(LayerWeights& layer, LayerVector which) {
  return layer.*LayerVectorRows()[static_cast<std::size_t>(which)].values;
}

constexpr Index kRowsOfBlock = 256;

/// Calls task(block, first row, rows) for blocks of kRowsOfBlock rows.
template <class Task>
void ForBlocks(Index rows, ThreadPool& pool, const Task& task) {
  pool.ParallelFor(CeilDiv(rows, kRowsOfBlock), [&](Index block, int) {
    const Index first = block * kRowsOfBlock;
    task(block, first, std::min(kRowsOfBlock, rows - first));
  });
}

float MeanSize(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += std::fabs(static_cast<double>(value));
  return static_cast<float>(sum / static_cast<double>(std::max<std::size_t>(values.size(), 1)));
}

}  // namespace

float TunedNumbers::Value(std::size_t i, DType floats) const noexcept {
  if (u[i] == 0) return start[i];
  const float value = start[i] + unit[i] * u[i];
  switch (kind) {
    case TunedKind::kScale:
      // A scale keeps its sign: codes would change theirs.
      return start[i] * value > 0 ? RoundScale(value) : start[i];
    case TunedKind::kMinimum:
      return RoundMinimum(value);
    case TunedKind::kSuper:
      return RoundHalf(value, kLeastHalf);
    case TunedKind::kSuperMinimum:
      return RoundHalf(value, 0);
    case TunedKind::kVector:
      return Stored(value, floats);
    case TunedKind::kCode:
      break;
  }
  return value;
}

TunedModel::TunedModel(const Weights& source, DType floats, const TunedParts& parts)
    : floats_(floats), on_device_(parts.on_device), weights_(source) {
  matrices_.resize(source.layers.size());
  vectors_.resize(source.layers.size());
  for (std::size_t l = 0; l < source.layers.size(); ++l) {
    const std::string layer = "layer " + std::to_string(l) + ", ";
    for (const Site site : kAllSites) {
      const auto s = static_cast<std::size_t>(site);
      const std::string name = layer + std::string(Name(site));
      const Linear& linear = source.layers[l].linears[s];
      if (!linear.bias.empty()) matrices_[l][s].bias = AddVector(name + ": bias", linear.bias);
      AddMatrix(
          name, linear.weight,
          parts.reference != nullptr ? &parts.reference->layers[l].linears[s].weight : nullptr,
          parts, matrices_[l][s]);
      if (matrices_[l][s].matrix) weights_.layers[l].linears[s].weight = matrices_[l][s].matrix;
    }
    vectors_[l].fill(kNone);
    for (const LayerVector which : kNorms) {
      const std::vector<float>& values = VectorOf(weights_.layers[l], which);
      if (values.empty()) continue;
      const std::string name = layer + "norm " + std::to_string(static_cast<int>(which));
      vectors_[l][static_cast<std::size_t>(which)] = AddVector(name, values);
    }
  }
  final_norm_ = AddVector("final norm", weights_.final_norm);
  AddEnds(source, parts);
}

void TunedModel::AddEnds(const Weights& source, const TunedParts& parts) {
  for (const End end : EndsIn(source.config)) {
    const auto of = [end](auto& weights) -> auto& {
      return end == End::kEmbedding ? weights.embedding : weights.head;
    };
    MatrixPlace& place = ends_[static_cast<std::size_t>(end)];
    AddMatrix(std::string(Name(end)), of(source),
              parts.reference != nullptr ? &of(*parts.reference) : nullptr, parts, place);
    if (place.matrix == nullptr) continue;
    of(weights_) = place.matrix;
    if (source.config.tied) weights_.head = place.matrix;
  }
}

template <class Self, class Call>
void TunedModel::ForPlaces(Self& self, const Call& call) {
  for (auto& layer : self.matrices_) {
    for (auto& place : layer) {
      if (place.matrix != nullptr) call(place);
    }
  }
  for (auto& place : self.ends_) {
    if (place.matrix != nullptr) call(place);
  }
}

template <class Self>
auto& TunedModel::PlaceOf(Self& self, const TunedMatrix& matrix) {
  return matrix.end ? self.ends_[static_cast<std::size_t>(*matrix.end)]
                    : self.matrices_[Size(matrix.layer)][static_cast<std::size_t>(matrix.site)];
}

std::optional<End> TunedModel::Trained(End end) const noexcept {
  if (weights_.config.tied) end = End::kEmbedding;
  if (ends_[static_cast<std::size_t>(end)].matrix == nullptr) return std::nullopt;
  return end;
}

std::size_t TunedModel::count() const noexcept {
  std::size_t sum = 0;
  for (const TunedNumbers& each : numbers_) sum += each.u.size();
  return sum;
}

std::size_t TunedModel::Add(std::string name, TunedKind kind, std::vector<float> start,
                            std::vector<float> unit, bool gradient) {
  const std::size_t count = start.size();
  numbers_.push_back({.name = std::move(name),
                      .kind = kind,
                      .start = std::move(start),
                      .unit = std::move(unit),
                      .u = std::vector<float>(count),
                      .gradient = std::vector<float>(gradient ? count : 0)});
  return numbers_.size() - 1;
}

std::size_t TunedModel::AddVector(std::string name, std::span<const float> values) {
  std::vector<float> start(values.begin(), values.end());
  std::vector<float> unit(start.size(), MeanSize(start));
  return Add(std::move(name), TunedKind::kVector, std::move(start), std::move(unit));
}

void TunedModel::AddMatrix(const std::string& name, const AnyMatrix& matrix,
                           const AnyMatrix* reference, const TunedParts& parts,
                           MatrixPlace& place) {
  const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
  if (packed == nullptr || *packed == nullptr) return;
  const QMatrix& q = **packed;
  place.source = *packed;
  place.matrix = std::make_shared<QMatrix>(q);
  const bool here = !parts.on_device;
  if (parts.codes) AddCodes(name, reference, parts, place);
  const bool minima = q.grid().offset == Offset::kFloat;
  if (q.grid().k_quant) {
    std::vector<float> d, dmin;
    for (Index r = 0; r < q.rows(); ++r) {
      for (Index s = 0; s < q.supers(); ++s) {
        d.push_back(q.Super(r, s).d);
        dmin.push_back(q.Super(r, s).dmin);
      }
    }
    std::vector<float> unit = d;
    place.scale = Add(name + ": d", TunedKind::kSuper, std::move(d), std::move(unit), here);
    if (!minima) return;
    unit = dmin;
    place.minimum =
        Add(name + ": dmin", TunedKind::kSuperMinimum, std::move(dmin), std::move(unit), here);
    return;
  }
  const View<const float, 2> scales = q.scales();
  std::vector<float> start(scales.data(), scales.data() + scales.size()), unit = start;
  place.scale = Add(name + ": scale", TunedKind::kScale, std::move(start), unit, here);
  if (!minima) return;
  start.assign(q.minima().data(), q.minima().data() + q.minima().size());
  for (float& each : unit) each = std::fabs(each);
  place.minimum =
      Add(name + ": minimum", TunedKind::kMinimum, std::move(start), std::move(unit), here);
}

/// z = code + towards * (weight - value) / scale, no further than the edge of the code's step.
void TunedModel::AddCodes(const std::string& name, const AnyMatrix* reference,
                          const TunedParts& parts, MatrixPlace& place) {
  constexpr float kEdge = 0.49f;
  const QMatrix& q = *place.source;
  const bool known =
      reference != nullptr && Rows(*reference) == q.rows() && Cols(*reference) == q.cols();
  std::vector<float> z(Size(q.rows() * q.cols()));
  const auto begin_row = [&](Index r, std::span<std::uint8_t> codes, View<float, 2> value,
                             View<float, 2> weight) {
    float* to = z.data() + r * q.cols();
    q.GetRow(r, codes);
    std::ranges::copy(codes, to);
    if (!known) return;
    q.Dequantize(r, value);
    WidenRows(*reference, r, weight);
    const Index group = q.group_columns();
    for (Index c = 0; c < q.cols(); ++c) {
      const float apart = (weight(0, c) - value(0, c)) / q.scales()(r, c / group);
      if (std::isfinite(apart)) to[c] += parts.towards * std::clamp(apart, -kEdge, kEdge);
    }
  };
  const auto begin_rows = [&](Index first, Index count) {
    std::vector<std::uint8_t> codes(Size(q.cols()));
    Matrix<float> value(1, q.cols()), weight(1, q.cols());
    for (Index r = first; r < first + count; ++r) {
      begin_row(r, codes, value.view(), weight.view());
    }
  };
  if (parts.pool != nullptr) {
    ForBlocks(q.rows(), *parts.pool,
              [&](Index, Index first, Index count) { begin_rows(first, count); });
  } else {
    begin_rows(0, q.rows());
  }
  place.code = numbers_.size();
  numbers_.push_back(
      {.name = name + ": codes",
       .kind = TunedKind::kCode,
       .start = {},
       .unit = {},
       .u = std::move(z),
       .gradient = std::vector<float>(Size(parts.on_device ? Index{0} : q.rows() * q.cols()))});
}

void TunedModel::Apply(const MatrixPlace& place, Index first, Index rows) {
  ApplyMatrix(place, first, rows);
  if (place.code != kNone) ApplyCodes(place, first, rows);
}

void TunedModel::ApplyCodes(const MatrixPlace& place, Index first, Index rows) {
  QMatrix& q = *place.matrix;
  const int most = (1 << q.grid().bits) - 1;
  const float low = -0.5f, high = static_cast<float>(most) + 0.5f;
  std::vector<std::uint8_t> codes(Size(q.cols()));
  float* z = numbers_[place.code].u.data() + first * q.cols();
  for (Index r = first; r < first + rows; ++r) {
    for (std::uint8_t& code : codes) {
      *z = std::clamp(*z, low, high);
      code = static_cast<std::uint8_t>(std::min(static_cast<int>(*z++ + 0.5f), most));
    }
    q.SetRow(r, codes);
  }
}

void TunedModel::ApplyMatrix(const MatrixPlace& place, Index first, Index rows) const {
  QMatrix& q = *place.matrix;
  const TunedNumbers& scale = numbers_[place.scale];
  const TunedNumbers* minimum = place.minimum == kNone ? nullptr : &numbers_[place.minimum];
  std::size_t i = Size(first * (q.grid().k_quant ? q.supers() : q.groups()));
  if (q.grid().k_quant) {
    for (Index r = first; r < first + rows; ++r) {
      for (Index s = 0; s < q.supers(); ++s, ++i) {
        SuperBlock super = q.Super(r, s);
        super.d = scale.Value(i, floats_);
        if (minimum != nullptr) super.dmin = minimum->Value(i, floats_);
        q.SetSuper(r, s, super);
      }
    }
    return;
  }
  for (Index r = first; r < first + rows; ++r) {
    for (Index g = 0; g < q.groups(); ++g, ++i) {
      q.scales()(r, g) = scale.Value(i, floats_);
      if (minimum != nullptr) q.minima()(r, g) = minimum->Value(i, floats_);
    }
  }
}

void TunedModel::ApplyVector(std::size_t at, std::vector<float>& to) const {
  if (at == kNone) return;
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = numbers_[at].Value(i, floats_);
}

void TunedModel::ApplyVectors() {
  for (std::size_t l = 0; l < matrices_.size(); ++l) {
    for (const Site site : kAllSites) {
      const auto s = static_cast<std::size_t>(site);
      ApplyVector(matrices_[l][s].bias, weights_.layers[l].linears[s].bias);
    }
    for (const LayerVector which : kNorms) {
      ApplyVector(vectors_[l][static_cast<std::size_t>(which)],
                  VectorOf(weights_.layers[l], which));
    }
  }
  ApplyVector(final_norm_, weights_.final_norm);
}

void TunedModel::Apply(ThreadPool& pool) {
  pool.ParallelFor(static_cast<Index>(matrices_.size()), [&](Index layer, int) {
    for (const MatrixPlace& place : matrices_[Size(layer)]) {
      if (place.matrix != nullptr) Apply(place, 0, place.matrix->rows());
    }
  });
  for (const MatrixPlace& place : ends_) {
    ForBlocks(place.matrix == nullptr ? 0 : place.matrix->rows(), pool,
              [&](Index, Index first, Index count) { Apply(place, first, count); });
  }
  ApplyVectors();
}

std::vector<TunedMatrix> TunedModel::Matrices() const {
  std::vector<TunedMatrix> all;
  const auto add = [&](TunedMatrix matrix) {
    const MatrixPlace& place = PlaceOf(*this, matrix);
    if (place.matrix == nullptr) return;
    matrix.matrix = place.matrix;
    matrix.scale = place.scale;
    matrix.minimum = place.minimum;
    matrix.code = place.code;
    all.push_back(std::move(matrix));
  };
  for (std::size_t l = 0; l < matrices_.size(); ++l) {
    for (const Site site : kAllSites) add({.layer = static_cast<Index>(l), .site = site});
  }
  for (const End end : kAllEnds) add({.end = end});
  return all;
}

std::span<std::uint32_t> TunedModel::KeptWords(const TunedMatrix& matrix) {
  return PlaceOf(*this, matrix).kept;
}

void TunedModel::Keep() {
  kept_.clear();
  for (const TunedNumbers& each : numbers_) {
    kept_.push_back(each.kind == TunedKind::kCode ? std::vector<float>() : each.u);
  }
  ForPlaces(*this, [](MatrixPlace& place) {
    if (place.code == kNone) return;
    const auto words = std::as_const(*place.matrix).words();
    place.kept.assign(words.begin(), words.end());
  });
}

void TunedModel::Restore(ThreadPool& pool) {
  LIEQ_ASSERT(kept_.size() == numbers_.size());
  for (std::size_t n = 0; n < numbers_.size(); ++n) {
    if (numbers_[n].kind != TunedKind::kCode) numbers_[n].u = kept_[n];
  }
  ForPlaces(*this, [&](const MatrixPlace& place) {
    if (place.code == kNone) return;
    QMatrix& q = *place.matrix;
    std::ranges::copy(place.kept, q.words().begin());
    std::vector<std::uint8_t> codes(Size(q.cols()));
    for (Index r = 0; r < q.rows(); ++r) {
      q.GetRow(r, codes);
      std::ranges::copy(codes, numbers_[place.code].u.begin() + r * q.cols());
    }
  });
  Apply(pool);
}

std::vector<TunedArray> TunedModel::Arrays() {
  LIEQ_ASSERT(kept_.size() == numbers_.size());
  std::vector<TunedArray> arrays;
  const auto add = [&](std::string name, DType type, auto& values) {
    if (values.empty()) return;
    arrays.push_back({std::move(name), type, std::as_writable_bytes(std::span(values))});
  };
  for (std::size_t n = 0; n < numbers_.size(); ++n) {
    add(numbers_[n].name + ": u", DType::kF32, numbers_[n].u);
    add(numbers_[n].name + ": kept", DType::kF32, kept_[n]);
  }
  ForPlaces(*this, [&](MatrixPlace& place) {
    if (place.code == kNone) return;
    add(numbers_[place.code].name + ": kept", DType::kU32, place.kept);
  });
  return arrays;
}

std::int64_t TunedModel::moved_codes(ThreadPool& pool) const {
  std::int64_t moved = 0;
  ForPlaces(*this, [&](const MatrixPlace& place) {
    if (place.code == kNone) return;
    const QMatrix &now = *place.matrix, &before = *place.source;
    std::vector<std::int64_t> of_blocks(Size(CeilDiv(now.rows(), kRowsOfBlock)));
    ForBlocks(now.rows(), pool, [&](Index block, Index first, Index count) {
      std::vector<std::uint8_t> is(Size(now.cols())), was(is.size());
      for (Index r = first; r < first + count; ++r) {
        now.GetRow(r, is);
        before.GetRow(r, was);
        of_blocks[Size(block)] +=
            std::inner_product(is.begin(), is.end(), was.begin(), std::int64_t{0}, std::plus<>(),
                               std::not_equal_to<>());
      }
    });
    moved = std::accumulate(of_blocks.begin(), of_blocks.end(), moved);
  });
  return moved;
}

std::int64_t TunedModel::codes() const noexcept {
  std::int64_t sum = 0;
  for (const TunedNumbers& each : numbers_) {
    if (each.kind == TunedKind::kCode) sum += static_cast<std::int64_t>(each.u.size());
  }
  return sum;
}

void TunedModel::AddMatrixGradient(Index layer, Site site, View<const float, 2> dw,
                                   ThreadPool& pool) {
  const MatrixPlace& place = matrices_[Size(layer)][static_cast<std::size_t>(site)];
  if (place.matrix != nullptr) AddGradient(place, dw, pool);
}

void TunedModel::AddEndGradient(End end, View<const float, 2> dw, ThreadPool& pool) {
  AddGradient(ends_[static_cast<std::size_t>(end)], dw, pool);
}

void TunedModel::AddGradient(const MatrixPlace& place, View<const float, 2> dw, ThreadPool& pool) {
  LIEQ_ASSERT(place.matrix != nullptr);
  const QMatrix& q = *place.matrix;
  LIEQ_ASSERT(dw.rows() == q.rows() && dw.cols() == q.cols());
  TunedNumbers& scale = numbers_[place.scale];
  TunedNumbers* minimum = place.minimum == kNone ? nullptr : &numbers_[place.minimum];
  float* of_z = place.code == kNone ? nullptr : numbers_[place.code].gradient.data();
  const Index columns = q.group_columns(), groups = q.groups();
  const Index supers = q.supers(), of_super = supers > 0 ? groups / supers : 1;
  pool.ParallelFor(q.rows(), [&](Index r, int) {
    std::vector<std::uint8_t> codes(Size(q.cols()));
    q.GetRow(r, codes);
    const std::span<const float> row = dw.Row(r);
    for (Index g = 0; g < groups; ++g) {
      const float zero =
          q.zeros().size() > 0 ? static_cast<float>(q.zeros()(r, g)) : q.grid().shared_zero();
      double of_codes = 0, of_ones = 0;
      for (Index c = g * columns; c < (g + 1) * columns; ++c) {
        const auto d = static_cast<double>(row[Size(c)]);
        of_codes += d * static_cast<double>(static_cast<float>(codes[Size(c)]) - zero);
        of_ones += d;
      }
      if (of_z != nullptr) {  // passed through the rounding
        const float step = q.scales()(r, g);
        float* to = of_z + r * q.cols();
        for (Index c = g * columns; c < (g + 1) * columns; ++c) to[c] += row[Size(c)] * step;
      }
      std::size_t at = Size(r * groups + g);
      if (supers > 0) {
        const Index block = g / of_super;
        const SuperBlock& super = q.Super(r, block);
        at = Size(r * supers + block);
        of_codes *= static_cast<double>(super.scales[Size(g % of_super)]);
        of_ones *= -static_cast<double>(super.minima[Size(g % of_super)]);
      }
      scale.gradient[at] += static_cast<float>(of_codes) * scale.unit[at];
      if (minimum != nullptr) {
        minimum->gradient[at] += static_cast<float>(of_ones) * minimum->unit[at];
      }
    }
  });
}

void TunedModel::AddVectorTo(std::size_t at, std::span<const double> gradient) {
  if (at == kNone) return;
  TunedNumbers& to = numbers_[at];
  LIEQ_ASSERT(gradient.size() == to.gradient.size());
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    to.gradient[i] += static_cast<float>(gradient[i]) * to.unit[i];
  }
}

bool TunedModel::HasBias(Index layer, Site site) const {
  return matrices_[Size(layer)][static_cast<std::size_t>(site)].bias != kNone;
}

void TunedModel::AddBiasGradient(Index layer, Site site, std::span<const double> db) {
  AddVectorTo(matrices_[Size(layer)][static_cast<std::size_t>(site)].bias, db);
}

void TunedModel::AddVectorGradient(Index layer, LayerVector which, std::span<const double> dw) {
  AddVectorTo(vectors_[Size(layer)][static_cast<std::size_t>(which)], dw);
}

void TunedModel::AddFinalNormGradient(std::span<const double> dw) {
  // The norm that is placed is divided by the scaling of logits (PlacedWeights::final_norm).
  std::vector<double> of_norm(dw.begin(), dw.end());
  for (double& each : of_norm) each /= weights_.config.logits_scaling;
  AddVectorTo(final_norm_, of_norm);
}

}  // namespace lieq
