#include "lieq/device/cpu/mixers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/device_access.h"

namespace lieq {
namespace {

float Sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

/// ln(1 + e^x)
float SoftPlus(float x) {
  return x > 20.0f ? x : std::log1p(std::exp(x));
}

float GeluTanh(float x) {
  constexpr float kSlope = 0.7978845608028654f, kCubic = 0.044715f;  // sqrt(2 / pi)
  return 0.5f * x * (1.0f + std::tanh(kSlope * (x + kCubic * x * x * x)));
}

float Dot(const float* a, const float* b, Index n) {
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return static_cast<float>(sum);
}

/// Where the tokens of a span and of its past lie among rows.
Index RowOf(const AttentionSpan& span, Index position) {
  return position < span.past ? span.past_keys + position : span.begin + position - span.past;
}

Index Sequence(const AttentionSpan& span, const SequenceState& state) {
  return span.past_keys / state.capacity;
}

}  // namespace

void CapScores(float* scores, float scale, float cap, Index count) {
  const float inner = scale / cap;
  for (Index i = 0; i < count; ++i) scores[i] = cap * std::tanh(inner * scores[i]);
}

template <class Function>
void CpuMixers::ForElements(DeviceView<float> x_, DeviceView<const float> with_,
                            const Function& f) {
  constexpr Index kRows = 16;
  const View<float, 2> x = DeviceAccess::Shared(x_);
  const View<const float, 2> with = DeviceAccess::Shared(with_);
  LIEQ_ASSERT(x.rows() == with.rows() && x.cols() == with.cols());
  pool_.ParallelFor(CeilDiv(x.rows(), kRows), [&](Index task, int) {
    const Index end = std::min(x.rows(), (task + 1) * kRows);
    for (Index r = task * kRows; r < end; ++r) {
      float* row = x.Row(r).data();
      const float* other = with.Row(r).data();
      for (Index c = 0; c < x.cols(); ++c) row[c] = f(row[c], other[c]);
    }
  });
}

void CpuMixers::Add(DeviceView<const float> from, DeviceView<float> to) {
  ForElements(to, from, [](float a, float b) { return a + b; });
}

void CpuMixers::Multiply(DeviceView<float> x, DeviceView<const float> by) {
  ForElements(x, by, [](float a, float b) { return a * b; });
}

void CpuMixers::MultiplyBySigmoid(DeviceView<float> x, DeviceView<const float> by) {
  ForElements(x, by, [](float a, float b) { return a * Sigmoid(b); });
}

void CpuMixers::GeluGlu(DeviceView<float> gate, DeviceView<const float> up) {
  ForElements(gate, up, [](float a, float b) { return GeluTanh(a) * b; });
}

void CpuMixers::SoftCap(DeviceView<float> x, float cap) {
  ForElements(x, x, [cap](float a, float) { return cap * std::tanh(a / cap); });
}

void CpuMixers::Convolve(DeviceView<const float> x_, const ConvolutionWeights& weights,
                         std::span<const AttentionSpan> spans, const SequenceState& state,
                         DeviceView<float> y_) {
  constexpr Index kChannels = 256;  // of a task
  const View<const float, 2> x = DeviceAccess::Shared(x_);
  const View<float, 2> y = DeviceAccess::Shared(y_);
  const Index channels = x.cols(), kernel = weights.kernel, kept = kernel - 1;
  const float* weight = DeviceAccess::Shared(weights.weight).data();
  const float* bias = weights.bias.empty() ? nullptr : DeviceAccess::Shared(weights.bias).data();
  const Index parts = CeilDiv(channels, kChannels);
  const bool holds = !state.rows.empty() && kept > 0;
  pool_.ParallelFor(static_cast<Index>(spans.size()) * parts, [&](Index task, int) {
    const AttentionSpan& span = spans[Size(task / parts)];
    const Index first = task % parts * kChannels, end = std::min(channels, first + kChannels);
    // The last inputs before the span's first, the oldest first: [kept] of each channel.
    std::vector<float> before(Size((end - first) * kept), 0.0f);
    float* held =
        holds ? DeviceAccess::Shared(state.rows).Row(Sequence(span, state)).data() : nullptr;
    for (Index c = first; c < end; ++c) {
      for (Index i = 0; i < kept; ++i) {
        const Index position = span.past - kept + i;
        if (span.past == 0 || position < 0) continue;
        before[Size((c - first) * kept + i)] =
            held != nullptr ? held[c * kept + i] : x(RowOf(span, position), c);
      }
    }
    for (Index c = first; c < end; ++c) {
      const float* taps = weight + c * kernel;
      const float* past = before.data() + (c - first) * kept;
      const auto input = [&](Index token) {  // of the span; negative: before it
        return token < 0 ? past[kept + token] : x(span.begin + token, c);
      };
      for (Index t = 0; t < span.length; ++t) {
        float sum = bias != nullptr ? bias[c] : 0.0f;
        for (Index i = 0; i < kernel; ++i) sum += taps[i] * input(t - kept + i);
        y(span.begin + t, c) = weights.swish ? sum * Sigmoid(sum) : sum;
      }
      if (held == nullptr) continue;
      std::vector<float> last(Size(kept));
      for (Index i = 0; i < kept; ++i) last[Size(i)] = input(span.length - kept + i);
      std::ranges::copy(last, held + c * kept);
    }
  });
}

void CpuMixers::GatedDelta(DeviceView<const float> qkv_, DeviceView<const float> normed_,
                           const DeltaWeights& w, std::span<const AttentionSpan> spans,
                           const SequenceState& state, DeviceView<float> out_) {
  const View<const float, 2> qkv = DeviceAccess::Shared(qkv_),
                             normed = DeviceAccess::Shared(normed_);
  const View<float, 2> out = DeviceAccess::Shared(out_);
  const Index hidden = normed.cols(), keys = w.key_heads * w.key_dim;
  const float* decay_input = DeviceAccess::Shared(w.decay_input).data();
  const float* strength_input = DeviceAccess::Shared(w.strength_input).data();
  const float* decays = DeviceAccess::Shared(w.decay).data();
  const float* shifts = DeviceAccess::Shared(w.shift).data();
  const Index cells = w.key_dim * w.value_dim;
  pool_.ParallelFor(static_cast<Index>(spans.size()) * w.value_heads, [&](Index task, int) {
    constexpr float kEps = 1e-6f;
    const AttentionSpan& span = spans[Size(task / w.value_heads)];
    const Index head = task % w.value_heads, key_head = head * w.key_heads / w.value_heads;
    std::vector<float> memory(Size(cells), 0.0f), q(Size(w.key_dim)), k(Size(w.key_dim)),
        written(Size(w.value_dim));
    float* held = nullptr;
    if (!state.rows.empty()) {
      held = DeviceAccess::Shared(state.rows).Row(Sequence(span, state)).data() + head * cells;
      if (span.past > 0) std::copy_n(held, cells, memory.data());
    }
    const auto unit = [&](const float* from, std::vector<float>& to, float factor) {
      const float length = std::sqrt(Dot(from, from, w.key_dim) + kEps);
      for (Index i = 0; i < w.key_dim; ++i) to[Size(i)] = from[i] / length * factor;
    };
    const float query_factor = 1.0f / std::sqrt(static_cast<float>(w.key_dim));
    // Without a state the past is gone through again: what it wrote is not kept anywhere.
    for (Index position = held != nullptr ? span.past : 0; position < span.past + span.length;
         ++position) {
      const Index row = RowOf(span, position);
      const float* in = qkv.Row(row).data();
      const float* x = normed.Row(row).data();
      unit(in + key_head * w.key_dim, q, query_factor);
      unit(in + keys + key_head * w.key_dim, k, 1.0f);
      const float* v = in + 2 * keys + head * w.value_dim;
      const float strength = Sigmoid(Dot(x, strength_input + head * hidden, hidden));
      const float rate =
          SoftPlus(Dot(x, decay_input + head * hidden, hidden) + shifts[head]) * decays[head];
      const float kept = std::exp(-rate);
      std::ranges::fill(written, 0.0f);
      for (Index i = 0; i < w.key_dim; ++i) {
        float* cell = memory.data() + i * w.value_dim;
        const float key = k[Size(i)];
        for (Index j = 0; j < w.value_dim; ++j) {
          cell[j] *= kept;
          written[Size(j)] += cell[j] * key;
        }
      }
      for (Index j = 0; j < w.value_dim; ++j) {
        written[Size(j)] = (v[j] - written[Size(j)]) * strength;
      }
      const bool wanted = position >= span.past;
      float* to = wanted ? out.Row(row).data() + head * w.value_dim : nullptr;
      if (wanted) std::fill_n(to, w.value_dim, 0.0f);
      for (Index i = 0; i < w.key_dim; ++i) {
        float* cell = memory.data() + i * w.value_dim;
        const float key = k[Size(i)], query = q[Size(i)];
        for (Index j = 0; j < w.value_dim; ++j) {
          cell[j] += key * written[Size(j)];
          if (wanted) to[j] += cell[j] * query;
        }
      }
    }
    if (held != nullptr) std::ranges::copy(memory, held);
  });
}

void CpuMixers::Clip(DeviceView<float> x, float limit) {
  ForElements(x, x, [limit](float a, float) { return std::clamp(a, -limit, limit); });
}

namespace {

/// In double, eight sums side by side: the same whatever else is in a batch.
double RouterDot(const float* a, const float* b, Index n) {
  constexpr Index kLanes = 8;
  std::array<double, Size(kLanes)> sums{};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (Index lane = 0; lane < kLanes; ++lane) {
      sums[Size(lane)] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

void CpuMixers::Route(DeviceView<const float> normed_, DeviceView<const float> router_,
                      bool normalised, DeviceView<float> routes_) {
  constexpr Index kRows = 16;
  const View<const float, 2> normed = DeviceAccess::Shared(normed_);
  const View<float, 2> routes = DeviceAccess::Shared(routes_);
  const float* router = DeviceAccess::Shared(router_).data();
  const Index hidden = normed.cols(), experts = router_.cols() / hidden, used = routes.cols() / 2;
  LIEQ_ASSERT(used <= experts && routes.rows() == normed.rows());
  pool_.ParallelFor(CeilDiv(normed.rows(), kRows), [&](Index task, int) {
    std::vector<double> logits(Size(experts));
    std::vector<Index> order(Size(experts));
    const Index end = std::min(normed.rows(), (task + 1) * kRows);
    for (Index r = task * kRows; r < end; ++r) {
      for (Index e = 0; e < experts; ++e) {
        logits[Size(e)] = RouterDot(normed.Row(r).data(), router + e * hidden, hidden);
        // A value that is no number stays at its place: what comes of it is found behind the model.
        if (std::isnan(logits[Size(e)])) logits[Size(e)] = -HUGE_VAL;
      }
      std::iota(order.begin(), order.end(), Index{0});
      std::partial_sort(order.begin(), order.begin() + used, order.end(), [&](Index a, Index b) {
        return logits[Size(a)] > logits[Size(b)] || (logits[Size(a)] == logits[Size(b)] && a < b);
      });
      const double largest = logits[Size(order[0])];
      double all = 0, chosen = 0;
      for (const double logit : logits) all += std::exp(logit - largest);
      for (Index j = 0; j < used; ++j) chosen += std::exp(logits[Size(order[Size(j)])] - largest);
      for (Index j = 0; j < used; ++j) {
        const Index expert = order[Size(j)];
        routes(r, j) = static_cast<float>(expert);
        routes(r, used + j) = static_cast<float>(std::exp(logits[Size(expert)] - largest) /
                                                 (normalised ? chosen : all));
      }
    }
  });
}

void CpuMixers::Gather(DeviceView<const float> from_, std::span<const Index> rows,
                       DeviceView<float> to_) {
  constexpr Index kRows = 64;
  const View<const float, 2> from = DeviceAccess::Shared(from_);
  const View<float, 2> to = DeviceAccess::Shared(to_);
  LIEQ_ASSERT(to.rows() == static_cast<Index>(rows.size()) && to.cols() == from.cols());
  pool_.ParallelFor(CeilDiv(to.rows(), kRows), [&](Index task, int) {
    const Index end = std::min(to.rows(), (task + 1) * kRows);
    for (Index r = task * kRows; r < end; ++r) {
      std::ranges::copy(from.Row(rows[Size(r)]), to.Row(r).begin());
    }
  });
}

void CpuMixers::AddRouted(DeviceView<const float> from_, std::span<const Index> rows,
                          DeviceView<const float> routes_, DeviceView<float> to_) {
  constexpr Index kRows = 16;
  const View<const float, 2> from = DeviceAccess::Shared(from_),
                             routes = DeviceAccess::Shared(routes_);
  const View<float, 2> to = DeviceAccess::Shared(to_);
  const Index used = routes.cols() / 2;
  LIEQ_ASSERT(to.rows() * used == static_cast<Index>(rows.size()) && to.cols() == from.cols());
  pool_.ParallelFor(CeilDiv(to.rows(), kRows), [&](Index task, int) {
    const Index end = std::min(to.rows(), (task + 1) * kRows);
    std::vector<float> sum(Size(to.cols()));
    for (Index r = task * kRows; r < end; ++r) {
      std::ranges::fill(sum, 0.0f);
      for (Index j = 0; j < used; ++j) {
        const float share = routes(r, used + j);
        const float* given = from.Row(rows[Size(r * used + j)]).data();
        for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += share * given[c];
      }
      float* row = to.Row(r).data();
      for (std::size_t c = 0; c < sum.size(); ++c) row[c] += sum[c];
    }
  });
}

}  // namespace lieq
