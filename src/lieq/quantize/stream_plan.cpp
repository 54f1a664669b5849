#include "lieq/quantize/stream_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lieq/base/error.h"
#include "lieq/model/layer_steps.h"

namespace lieq {
namespace {

constexpr double kFloat = sizeof(float), kDouble = sizeof(double);
constexpr double kUsable = 0.95;               // of the bound: pieces between pieces are lost
constexpr double kRest = 192.0 * 1024 * 1024;  // scratch of libraries, codes, biases

std::string GB(double bytes) {
  return fmt::format("{:.1f} GB", bytes * 1e-9);
}

class DeviceBytes {
 public:
  DeviceBytes(const Weights& weights, const QuantOptions& options, Index rows, Index batch,
              Index sums)
      : weights_(weights),
        config_(weights.config),
        options_(options),
        rows_(static_cast<double>(rows)),
        batch_(static_cast<double>(batch)),
        streams_(options.corrects() ? 2 : 1),
        sums_(static_cast<double>(sums)) {}

  [[nodiscard]] double Of(const StreamPlan& plan) const {
    const auto hidden = static_cast<double>(config_.hidden);
    const auto inner = static_cast<double>(GatedWidth(config_));
    const auto mixed = static_cast<double>(config_.In(Site::kO));
    const double inside = streams_ - (plan.quantized_outside ? 1 : 0) -
                          (streams_ > 1 && plan.reference_outside ? 1 : 0);
    const bool gated = rows_ * inner <= static_cast<double>(plan.most_kept);
    double floats = inside * rows_ * hidden +
                    streams_ * (plan.keeps_mixed ? rows_ : batch_) * mixed +
                    (gated ? rows_ : batch_) * inner;
    // Steps of a batch, in float and once more rounded.
    const auto keys = static_cast<double>(config_.Out(Site::kK));
    floats += batch_ * (3 * streams_ * hidden + 2 * mixed + 2 * keys + 3 * inner +
                        1.5 * std::max(inner, mixed));
    return kFloat * floats + LayerBytes() + LargestUnit() + kRest;
  }

  /// The embedding, beside the windows that were looked up in it.
  [[nodiscard]] double Embedding(const StreamPlan& plan) const {
    const double inside = streams_ * (plan.quantized_outside ? 0 : 1);
    return ItemBytes(weights_.embedding) + kRest +
           kFloat * static_cast<double>(config_.hidden) * (inside * rows_ + batch_);
  }

 private:
  static double ItemBytes(const AnyMatrix& matrix) {
    return static_cast<double>(MappedBytes(matrix).size());
  }
  /// Of the layer that comes beside the one that goes, and of one linear widened.
  [[nodiscard]] double LayerBytes() const {
    double all = 0, largest = 0;
    for (const Linear& linear : weights_.layers.front().linears) {
      const double bytes = ItemBytes(linear.weight);
      all += bytes;
      largest = std::max(largest, bytes);
    }
    return 2 * all + largest;
  }
  [[nodiscard]] double LargestUnit() const {
    double widest = 0, most = 0;
    for (const LayerStep& unit : UnitsOf(config_, 0)) {
      const auto in = static_cast<double>(Width(config_, unit.from));
      double out = 0;
      for (const auto& linear : unit.linears) {
        out = std::max(out, static_cast<double>(config_.Out(linear.site)));
      }
      const double square = in * in;
      const double follows = AddsToStream(unit) ? in * static_cast<double>(config_.hidden) : square;
      double floats = square;  // the factor
      if (options_.corrects()) floats += follows;
      if (*options_.rounds > 0) floats += square;
      if (options_.judges()) floats += square + (options_.corrects() ? follows : 0);
      const double matrices = options_.judges() ? 7 : 4;  // of a linear at work
      most = std::max(most, kDouble * square + kFloat * floats +
                                std::max(kDouble * square, kFloat * matrices * in * out));
      // While windows run there is no factor yet, but sums of several pieces of them.
      const double followed = options_.corrects() ? kFloat * follows : 0;
      const double fitted = kDouble * square + followed, judged = kFloat * square + followed;
      most = std::max(most, sums_ * fitted);
      if (options_.judges()) most = std::max(most, fitted + sums_ * judged);
      widest = std::max(widest, square);
    }
    return most + kFloat * widest;  // the part that a batch adds
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const QuantOptions& options_;
  const double rows_, batch_, streams_, sums_;
};

}  // namespace

std::string StreamPlan::Text() const {
  const int outside = (reference_outside ? 1 : 0) + (quantized_outside ? 1 : 0);
  return fmt::format("about {} of the GPU's memory{}{}", GB(bytes),
                     keeps_mixed ? "" : ", attention computed twice",
                     outside == 0   ? ""
                     : outside == 1 ? ", one stream in the host's memory"
                                    : ", both streams in the host's memory");
}

StreamPlan PlanStreams(const Weights& weights, const QuantOptions& options, Index rows, Index batch,
                       Index bound, Index sums) {
  if (bound == 0) return {};
  const DeviceBytes need(weights, options, rows, batch, sums);
  const bool two = options.corrects();
  const std::array<StreamPlan, 4> plans{StreamPlan{},
                                        StreamPlan{.keeps_mixed = false, .most_kept = 0},
                                        StreamPlan{.keeps_mixed = false,
                                                   .most_kept = 0,
                                                   .reference_outside = two,
                                                   .quantized_outside = !two},
                                        StreamPlan{.keeps_mixed = false,
                                                   .most_kept = 0,
                                                   .reference_outside = two,
                                                   .quantized_outside = true}};
  double least = 0;
  for (StreamPlan plan : plans) {
    plan.bytes = std::max(need.Of(plan), need.Embedding(plan));
    if (plan.bytes <= kUsable * static_cast<double>(bound)) return plan;
    least = plan.bytes;
  }
  throw Error({.what = "the bound on the GPU's memory is too low for this model",
               .where = "--device-memory",
               .expected = "about " + GB(least / kUsable),
               .found = GB(static_cast<double>(bound)),
               .hint = "a higher bound does, or --device cpu"});
}

}  // namespace lieq
