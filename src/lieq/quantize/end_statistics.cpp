#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/forward.h"
#include "lieq/model/padding.h"
#include "lieq/model/passes.h"
#include "lieq/quantize/ends.h"

namespace lieq {
namespace {

/// Some of the windows, evenly chosen.
Matrix<TokenId> Chosen(View<const TokenId, 2> windows) {
  const Index count = EndWindows(windows.rows(), windows.cols());
  Matrix<TokenId> chosen(count, windows.cols());
  for (Index w = 0; w < count; ++w) {
    std::ranges::copy(windows.Row(w * windows.rows() / count), chosen.view().Row(w).begin());
  }
  return chosen;
}

/// The matrix of a tied model rounded to nearest: what c is measured by. Of another width c would
/// be nearly the same, since both divergences grow with the squares of the errors.
QMatrix Probe(const AnyMatrix& matrix, Context& context) {
  Grid grid{.bits = 4, .group_size = 64};
  while (Cols(matrix) % grid.group_size != 0) grid.group_size /= 2;
  LinearReport report;
  QuantOptions options;
  options.clip = Clip::kNone;
  return QuantizeEnd(matrix, grid, nullptr, options, context, report);
}

/// The pass over the windows.
class EndMeter {
 public:
  EndMeter(const Weights& weights, Device& device, Index length, Context& context)
      : weights_(weights),
        device_(device),
        context_(context),
        sums_(RequireCalibration(device)),
        forward_(weights, device, length),
        norm_(Place(std::span<const float>(weights.final_norm), device)) {
    gram_ = sums_.MakeGram(weights.config.hidden);
    if (!weights.config.tied) return;
    probe_ = std::make_shared<const QMatrix>(Probe(weights.embedding, context));
    rounded_ = weights;
    rounded_.embedding = rounded_.head = probe_;
    probed_.emplace(rounded_, device, length);
    times_.resize(Size(weights.config.vocab));
  }

  void Measure(View<const TokenId, 2> part) {
    const Padding padding(part);
    Hidden stream = EmbedPadded(forward_, device_, part);
    Hidden moved;
    if (probed_) moved = EmbedPadded(*probed_, device_, part);
    for (Index layer = 0; layer < weights_.config.layers; ++layer) {
      context_.ThrowIfStopped();
      forward_.Layer(layer, stream);
      if (probed_) forward_.Layer(layer, moved);
      weights_.ReleaseLayer(layer);
    }
    const DeviceMatrix normed = device_.Alloc(stream.x.rows(), stream.x.cols());
    device_.RmsNorm(stream.x.view(), norm_->view(), weights_.config.rms_eps, normed.view());
    padding.Clear(device_, normed.view(), 0);
    sums_.GramUpdate(normed.view(), *gram_);
    found_.tokens += stream.x.rows() - padding.rows();
    if (!probed_) return;
    Compare(part, stream.x.view(), moved.x.view());
    for (Index w = 0; w < part.rows(); ++w) {
      for (const TokenId token : part.Row(w)) {
        if (token != kNoToken) times_[Size(token)] += 1;
      }
    }
  }

  [[nodiscard]] EndStatistics Result() {
    found_.gram = gram_->Take();
    for (Index j = 0; j < found_.gram.rows(); ++j) {
      if (std::isfinite(found_.gram(j, j))) continue;
      throw Error({.what = "the head's inputs are not finite on the calibration text",
                   .where = "channel " + std::to_string(j),
                   .hint = "check the checkpoint with `lieq evaluate` before quantizing it"});
    }
    if (probed_) found_.lookup = Lookup();
    return std::move(found_);
  }

 private:
  /// Divergences of the probe at the head, and of the stream that began with it.
  void Compare(View<const TokenId, 2> part, DeviceView<const float> x,
               DeviceView<const float> moved) {
    const Index vocab = weights_.config.vocab;
    const Index step = std::clamp<Index>(kLogitElements / (2 * vocab), 1, x.rows());
    const DeviceMatrix reference = device_.Alloc(step, vocab), other = device_.Alloc(step, vocab);
    std::vector<double> kl(Size(step));
    const auto add = [&](Index first, Index rows, double& sum) {
      device_.SoftmaxKl(reference.view().Rows(0, rows), other.view().Rows(0, rows),
                        std::span(kl).first(Size(rows)));
      device_.Sync();
      for (Index i = 0; i < rows; ++i) {
        if (part.data()[first + i] != kNoToken) sum += kl[Size(i)];
      }
    };
    for (Index first = 0; first < x.rows(); first += step) {
      const Index rows = std::min(step, x.rows() - first);
      forward_.Logits(x.Rows(first, rows), reference.view().Rows(0, rows));
      probed_->Logits(x.Rows(first, rows), other.view().Rows(0, rows));
      add(first, rows, head_kl_);
      forward_.Logits(moved.Rows(first, rows), other.view().Rows(0, rows));
      add(first, rows, lookup_kl_);
    }
  }

  /// Sum of eᵀe of the probe over the tokens of the text.
  Matrix<double> ProbeErrors() {
    constexpr Index kStep = 4096;  // rows at a time
    const Index hidden = weights_.config.hidden, vocab = weights_.config.vocab;
    const std::unique_ptr<PlacedSums<double>> errors = sums_.MakeGram(hidden);
    for (Index first = 0; first < vocab; first += kStep) {
      const Index rows = std::min(kStep, vocab - first);
      Matrix<float> e(rows, hidden), levels(rows, hidden);
      WidenRows(weights_.embedding, first, e.view());
      probe_->Dequantize(first, levels.view());
      for (Index r = 0; r < rows; ++r) {
        const auto weight = static_cast<float>(std::sqrt(times_[Size(first + r)]));
        for (Index c = 0; c < hidden; ++c) e(r, c) = weight * (e(r, c) - levels(r, c));
      }
      const DeviceMatrix placed = device_.Alloc(rows, hidden);
      device_.Upload(e.view(), placed.view());
      sums_.GramUpdate(placed.view(), *errors);
    }
    weights_.Release(weights_.embedding);
    return errors->Take();
  }

  /// c. A matrix that the probe holds exactly tells nothing, and needs nothing: 0.
  double Lookup() {
    const Matrix<double> errors = ProbeErrors();
    double looked_up = 0, multiplied = 0;  // sums of |e|² and of e G eᵀ
    for (Index i = 0; i < errors.rows(); ++i) {
      looked_up += errors(i, i);
      for (Index j = 0; j <= i; ++j) {
        multiplied += (i == j ? 1 : 2) * errors(i, j) * found_.gram(i, j);
      }
    }
    multiplied /= static_cast<double>(found_.tokens);
    const double lookup = std::max(lookup_kl_, 0.0) * multiplied;
    const double head = std::max(head_kl_, 0.0) * looked_up;
    return head > 0 ? lookup / head : 0;
  }

  const Weights& weights_;
  Device& device_;
  Context& context_;
  CalibrationOps& sums_;
  Forward forward_;
  const PlacedVector norm_;
  EndStatistics found_;
  std::unique_ptr<PlacedSums<double>> gram_;  // that of the head, while it is added up
  // Where the head is tied:
  std::shared_ptr<const QMatrix> probe_;
  Weights rounded_;
  std::optional<Forward> probed_;
  std::vector<double> times_;  // how often the text has each token
  double head_kl_ = 0, lookup_kl_ = 0;
};

}  // namespace

Index EndWindows(Index windows, Index length) noexcept {
  constexpr Index kMostTokens = Index{1} << 15;
  return std::min(windows, std::max<Index>(1, kMostTokens / length));
}

Index EndBatch(const ModelConfig& config, Index windows, Index length) noexcept {
  constexpr Index kMostFloats = Index{1} << 24;  // of a stream
  return std::clamp<Index>(kMostFloats / (length * config.hidden), 1, windows);
}

EndStatistics MeasureEnds(const Weights& weights, Device& device, View<const TokenId, 2> windows,
                          Context& context) {
  LIEQ_ASSERT(windows.rows() > 0 && windows.cols() > 0);
  const Matrix<TokenId> chosen = Chosen(windows);
  EndMeter meter(weights, device, chosen.cols(), context);
  const Index batch = EndBatch(weights.config, chosen.rows(), chosen.cols());
  context.progress.Begin("measuring the ends", "window", chosen.rows());
  for (Index w = 0; w < chosen.rows(); w += batch) {
    const Index count = std::min(batch, chosen.rows() - w);
    meter.Measure(chosen.view().Rows(w, count));
    context.progress.Update(w + count);
  }
  context.progress.End();
  return meter.Result();
}

}  // namespace lieq
