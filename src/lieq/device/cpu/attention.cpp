#include "lieq/device/cpu/attention.h"

#include <cmath>

#include "lieq/device/cpu/mixers.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

// Rows of a cache that are widened at a time: they stay in the second cache of the processor.
constexpr Index kWidenedRows = 256;

float ScoreScale(Index head_dim) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace

void CpuAttention::Softmax(float* scores, float scale, float cap, Index count) const {
  if (cap != 0) CapScores(scores, scale, cap, count);
  kernels_.softmax(scores, cap != 0 ? 1.0f : scale, count);
}

void CpuAttention::Attend(View<const float, 2> q, View<const float, 2> k, View<const float, 2> v,
                          const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                          View<float, 2> out) {
  const Index dim = heads.head_dim, shared = heads.heads / heads.kv_heads;
  const float scale = ScoreScale(dim);
  pool_.ParallelFor(static_cast<Index>(spans.size()) * heads.heads, [&](Index task, int worker) {
    const AttentionSpan& span = spans[Size(task / heads.heads)];
    const Index head = task % heads.heads, past = span.past;
    // A past right before the span is one block with it.
    const bool apart = past > 0 && span.past_keys + past != span.keys;
    const Index first = apart ? span.keys : span.keys - past, skipped = apart ? past : 0;
    const auto part = [&](View<const float, 2> rows, Index begin, Index count) {
      return rows.Rows(begin, count).Cols(head / shared * dim, dim);
    };
    for (Index begin = 0; begin < span.length; begin += kAttentionRows) {
      const Index rows = std::min(kAttentionRows, span.length - begin), seen = past + begin + rows;
      const auto queries = q.Rows(span.begin + begin, rows).Cols(head * dim, dim);
      const auto result = out.Rows(span.begin + begin, rows).Cols(head * dim, dim);
      const View<float, 2> scores = scratch_.Get(worker, rows, seen);
      if (apart) {
        Gemm(1.0f, queries, Transpose::kNo, part(k, span.past_keys, past), Transpose::kYes, 0.0f,
             scores.Cols(0, past));
      }
      Gemm(1.0f, queries, Transpose::kNo, part(k, first, seen - skipped), Transpose::kYes, 0.0f,
           scores.Cols(skipped, seen - skipped));
      for (Index i = 0; i < rows; ++i) {
        float* row = scores.Row(i).data();
        const Index visible = past + begin + i + 1;  // the token itself and all before it
        const Index hidden = BeyondWindow(visible, heads.window);
        Softmax(row + hidden, scale, heads.cap, visible - hidden);
        std::fill(row, row + hidden, 0.0f);
        std::fill(row + visible, row + seen, 0.0f);
      }
      if (apart) {
        Gemm(1.0f, scores.Cols(0, past), Transpose::kNo, part(v, span.past_keys, past),
             Transpose::kNo, 0.0f, result);
      }
      Gemm(1.0f, scores.Cols(skipped, seen - skipped), Transpose::kNo,
           part(v, first, seen - skipped), Transpose::kNo, apart ? 1.0f : 0.0f, result);
    }
  });
}

/// Scores of all its heads are held at once, so that a block of keys is widened once for them.
struct CpuAttention::GroupTask {
  View<const float, 2> q;  // [rows, shared * dim]: of the tokens, the heads of the group
  View<float, 2> out;      // as q
  const CpuRowCache& k;
  const CpuRowCache& v;
  Index kv_head, dim, window;
  float cap;
  const AttentionSpan& span;
  Index begin;  // first of the tokens in the span

  [[nodiscard]] Index rows() const { return q.rows(); }
  [[nodiscard]] Index shared() const { return q.cols() / dim; }
  /// Tokens that the last one sees, those before its window included.
  [[nodiscard]] Index seen() const { return span.past + begin + rows(); }
  /// The first that any of them sees.
  [[nodiscard]] Index from() const { return BeyondWindow(span.past + begin + 1, window); }
  [[nodiscard]] Index CacheRow(Index position) const {
    return position < span.past ? span.past_keys + position : span.keys + position - span.past;
  }
  /// Of one token the heads as [shared, dim]; of more, those of one head as [rows, dim].
  template <class T>
  [[nodiscard]] View<T, 2> Part(View<T, 2> of, Index part) const {
    if (rows() == 1) return {of.data(), shared(), dim};
    return of.Cols(part * dim, dim);
  }
  [[nodiscard]] Index parts() const { return rows() == 1 ? 1 : shared(); }
};

void CpuAttention::Run(const GroupTask& task, int worker) {
  const Index dim = task.dim, first = task.from(), width = task.seen() - first;
  const Index lines = task.rows() * task.shared();
  const View<float, 2> memory = scratch_.Get(worker, 1, lines * width + kWidenedRows * dim);
  const View<float, 2> all{memory.data(), lines, width};  // scores: part after part, row by row
  float* const widened = memory.data() + lines * width;
  const Index part_lines = lines / task.parts();
  /// Calls f(column of scores, their keys or values as [count, dim]) for block after block.
  const auto for_blocks = [&](const CpuRowCache& cache, const auto& f) {
    for (Index at = 0; at < width; at += kWidenedRows) {
      const View<float, 2> block{widened, std::min(kWidenedRows, width - at), dim};
      for (Index i = 0; i < block.rows(); ++i) {
        cache.Widen(kernels_, task.CacheRow(first + at + i), task.kv_head, block.Row(i));
      }
      f(at, View<const float, 2>(block));
    }
  };
  for_blocks(task.k, [&](Index at, View<const float, 2> keys) {
    for (Index part = 0; part < task.parts(); ++part) {
      Gemm(1.0f, task.Part(task.q, part), Transpose::kNo, keys, Transpose::kYes, 0.0f,
           all.Rows(part * part_lines, part_lines).Cols(at, keys.rows()));
    }
  });
  const float scale = ScoreScale(dim);
  for (Index line = 0; line < lines; ++line) {
    float* row = all.Row(line).data();
    const Index token = task.rows() == 1 ? 0 : line % task.rows();
    const Index visible = task.span.past + task.begin + token + 1;
    const Index hidden = BeyondWindow(visible, task.window);
    Softmax(row + (hidden - first), scale, task.cap, visible - hidden);
    std::fill(row, row + (hidden - first), 0.0f);
    std::fill(row + (visible - first), row + width, 0.0f);
  }
  for_blocks(task.v, [&](Index at, View<const float, 2> values) {
    for (Index part = 0; part < task.parts(); ++part) {
      Gemm(1.0f, all.Rows(part * part_lines, part_lines).Cols(at, values.rows()), Transpose::kNo,
           values, Transpose::kNo, at == 0 ? 0.0f : 1.0f, task.Part(task.out, part));
    }
  });
}

void CpuAttention::Attend(View<const float, 2> q, const CpuRowCache& k, const CpuRowCache& v,
                          const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                          View<float, 2> out) {
  if (k.type() == CacheType::kFloat) return Attend(q, k.floats(), v.floats(), heads, spans, out);
  const Index dim = heads.head_dim, width = heads.heads / heads.kv_heads * dim;
  const Index tile = std::max<Index>(1, kAttentionRows * dim / width);
  pool_.ParallelFor(static_cast<Index>(spans.size()) * heads.kv_heads, [&](Index task, int worker) {
    const AttentionSpan& span = spans[Size(task / heads.kv_heads)];
    const Index kv_head = task % heads.kv_heads;
    for (Index begin = 0; begin < span.length; begin += tile) {
      const Index rows = std::min(tile, span.length - begin);
      const auto part = [&](auto of) {
        return of.Rows(span.begin + begin, rows).Cols(kv_head * width, width);
      };
      Run({.q = part(q),
           .out = part(out),
           .k = k,
           .v = v,
           .kv_head = kv_head,
           .dim = dim,
           .window = heads.window,
           .cap = heads.cap,
           .span = span,
           .begin = begin},
          worker);
    }
  });
}

}  // namespace lieq
