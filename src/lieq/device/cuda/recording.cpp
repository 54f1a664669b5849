#include "lieq/device/cuda/recording.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/attend_token.h"
#include "lieq/device/cuda/prepared.h"
#include "lieq/device/device_access.h"

namespace lieq::cuda {
namespace {

std::int32_t Narrow(Index value) {
  return static_cast<std::int32_t>(value);
}

const float* DataOfView(DeviceView<float> view) {
  return DeviceAccess::Pointer(view);
}

/// What an operation does with the memory that begins at `data`.
enum class Use { kNone, kReads, kWrites };

struct UseOf {
  const float* data;

  Use operator()(const RecordedNorm& norm) const {
    if (norm.x.data == data || norm.weight == data) return Use::kReads;
    return norm.y.data == data ? Use::kWrites : Use::kNone;
  }
  Use operator()(const RecordedProducts& step) const {
    if (step.x.data == data) return Use::kReads;
    for (const Product& product : step.products) {
      if (DataOfView(product.y) == data) return step.add ? Use::kReads : Use::kWrites;
    }
    return Use::kNone;
  }
  Use operator()(const RecordedRope& rope) const {
    return rope.x.data == data ? Use::kReads : Use::kNone;
  }
  Use operator()(const RecordedStore& store) const {
    return store.from.data == data ? Use::kReads : Use::kNone;
  }
  Use operator()(const RecordedAttention& attention) const {
    if (attention.q.data == data) return Use::kReads;
    return attention.out.data == data ? Use::kWrites : Use::kNone;
  }
  Use operator()(const RecordedSwiGlu& step) const {
    return step.gate.data == data || step.up.data == data ? Use::kReads : Use::kNone;
  }
  Use operator()(const RecordedOther&) const { return Use::kReads; }  // it may
};

}  // namespace

Recording::Recording(Index tokens, Queue& queue)
    : queue_(queue),
      tokens_(tokens),
      inputs_(static_cast<StepInputs*>(queue.Take(sizeof(StepInputs)))) {}

Recording::~Recording() {
  Restart(0);
  queue_.Give(inputs_);
}

void Recording::Restart(Index tokens) {
  if (graph_ != nullptr) (void)cudaGraphExecDestroy(std::exchange(graph_, nullptr));
  operations_.clear();
  tokens_ = tokens;
}

bool Recording::Takes(std::span<const TokenId> tokens,
                      std::span<const AttentionSpan> spans) noexcept {
  if (tokens.empty() || tokens.size() > Size(kMostRecorded) || tokens.size() != spans.size()) {
    return false;
  }
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const AttentionSpan& span = spans[i];
    if (span.begin != static_cast<Index>(i) || span.length != 1 ||
        span.keys != span.past_keys + span.past) {
      return false;
    }
  }
  return true;
}

Index Recording::SpanAt(std::span<const AttentionSpan> spans, Index row) {
  const auto found = std::ranges::find(spans, row, &AttentionSpan::keys);
  LIEQ_ASSERT(found != spans.end());
  return found - spans.begin();
}

bool Recording::IsReadFrom(std::size_t at, const float* data) const {
  for (; at < operations_.size(); ++at) {
    const Use use = std::visit(UseOf{data}, operations_[at]);
    if (use != Use::kNone) return use == Use::kReads;
  }
  return false;
}

bool Recording::Holds(Index tokens) const noexcept {
  return graph_ != nullptr && tokens == tokens_ && given_ == queue_.given();
}

void Recording::Finish(CudaProducts& products) {
  for (const RecordedOperation& operation : operations_) {
    if (const auto* step = std::get_if<RecordedProducts>(&operation)) {
      products.Reserve(step->x.rows, step->products);
    }
  }
  const cudaStream_t stream = queue_.stream();
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "recording a step");
  cudaGraph_t graph = nullptr;
  try {
    QueueAll(products);
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
    throw;
  }
  Check(cudaStreamEndCapture(stream, &graph), "recording a step");
  const cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
  (void)cudaGraphDestroy(graph);
  Check(made, "recording a step");
  operations_.clear();
  given_ = queue_.given();
}

void Recording::Run(std::span<const TokenId> tokens, std::span<const AttentionSpan> spans) {
  StepInputs inputs{};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const AttentionSpan& span = spans[i];
    inputs.tokens[i] = tokens[i];
    inputs.positions[i] = Narrow(span.past);
    inputs.spans[i] = {Narrow(span.begin), Narrow(span.length), Narrow(span.keys),
                       Narrow(span.past), Narrow(span.past_keys)};
    inputs.tiles[i] = {static_cast<std::int32_t>(i), 0};
  }
  SetStep(inputs, inputs_, queue_.stream());
  Check(cudaGraphLaunch(graph_, queue_.stream()), "running a step");
}

void Recording::QueueAll(CudaProducts& products) {
  for (std::size_t at = 0; at < operations_.size();) {
    const std::size_t next = QueueJoined(at, products);
    if (next > at) {
      at = next;
    } else {
      QueueOne(operations_[at++], products);
    }
    Check(cudaGetLastError(), "recording a step");
  }
}

std::size_t Recording::QueueJoined(std::size_t at, CudaProducts& products) {
  const std::size_t behind = QueueTokenAttention(at);
  if (behind > at || at + 1 >= operations_.size()) return behind;
  // A norm or SwiGlu in front of products, and SwiGlu behind them.
  ProductInput input;
  std::size_t next = at;
  const float* made = nullptr;  // by what is in front
  if (const auto* norm = std::get_if<RecordedNorm>(&operations_[at])) {
    input = {.kind = InputKind::kNorm,
             .x = norm->x,
             .other = norm->weight,
             .other_stride = 0,
             .eps = norm->eps};
    made = norm->y.data;
    ++next;
  } else if (const auto* gated = std::get_if<RecordedSwiGlu>(&operations_[at])) {
    input = {.kind = InputKind::kSwiGlu,
             .x = {gated->gate.data, gated->gate.rows, gated->gate.cols, gated->gate.stride},
             .other = gated->up.data,
             .other_stride = gated->up.stride,
             .eps = 0};
    made = gated->gate.data;
    ++next;
  }
  const auto* step = std::get_if<RecordedProducts>(&operations_[next]);
  if (step == nullptr || !products.TakesInput(step->x, step->products)) return at;
  if (made == nullptr) {
    input = {
        .kind = InputKind::kPlain, .x = step->x, .other = nullptr, .other_stride = 0, .eps = 0};
  } else if (made != step->x.data || input.x.cols != step->x.cols || IsReadFrom(next + 1, made)) {
    return at;
  }
  ++next;
  const RecordedSwiGlu* behind_it =
      next < operations_.size() ? std::get_if<RecordedSwiGlu>(&operations_[next]) : nullptr;
  const bool gates = behind_it != nullptr && step->products.size() == 2 && !step->add &&
                     DataOfView(step->products[0].y) == behind_it->gate.data &&
                     DataOfView(step->products[1].y) == behind_it->up.data &&
                     !IsReadFrom(next + 1, behind_it->up.data);
  const bool gated = products.MultiplyInput(input, step->products, step->add, gates);
  return gated ? next + 1 : next;
}

std::size_t Recording::QueueTokenAttention(std::size_t at) {
  // Norms and rotations of heads in place, then rows into caches, then attention.
  std::size_t end = at;
  const RecordedAttention* attention = nullptr;
  for (; end < operations_.size(); ++end) {
    const RecordedOperation& operation = operations_[end];
    attention = std::get_if<RecordedAttention>(&operation);
    if (attention != nullptr) break;
    const auto* norm = std::get_if<RecordedNorm>(&operation);
    const bool in_place = norm != nullptr && norm->x.data == norm->y.data;
    if (!in_place && !std::holds_alternative<RecordedRope>(operation) &&
        !std::holds_alternative<RecordedStore>(operation)) {
      return at;
    }
  }
  if (attention == nullptr || end == at || !queue_.runs_packed()) return at;
  const AttentionHeads& heads = attention->heads;
  if (!AttendsTokens(heads.heads, heads.kv_heads, heads.head_dim) || heads.cap != 0) return at;

  TokenAttention a{};
  Index keys = 0, values = 0;
  for (std::size_t i = at; i < end; ++i) {
    const auto* store = std::get_if<RecordedStore>(&operations_[i]);
    if (store == nullptr) continue;
    const float* first = store->from.data - store->span * store->from.stride;
    if (store->cache.rows == attention->keys.rows) {
      if (keys++ > 0 && first != a.k) return at;
      a.k = first, a.k_stride = store->from.stride;
    } else if (store->cache.rows == attention->values.rows) {
      if (values++ > 0 && first != a.v) return at;
      a.v = first, a.v_stride = store->from.stride;
    } else {
      return at;
    }
  }
  if (keys != tokens_ || values != tokens_ || attention->q.rows != tokens_) return at;
  a.q = attention->q.data, a.q_stride = attention->q.stride;
  bool q_turns = false, k_turns = false, stored = false;
  for (std::size_t i = at; i < end; ++i) {
    stored = stored || std::holds_alternative<RecordedStore>(operations_[i]);
    if (const auto* norm = std::get_if<RecordedNorm>(&operations_[i])) {
      const bool of_q = norm->x.data == a.q, of_k = norm->x.data == a.k;
      const float*& weight = of_q ? a.q_norm : a.k_norm;
      const bool known = (of_q && !q_turns) || (of_k && !k_turns);
      const bool other_eps = (a.q_norm != nullptr || a.k_norm != nullptr) && a.eps != norm->eps;
      if (!known || stored || weight != nullptr || other_eps || norm->x.cols != heads.head_dim) {
        return at;
      }
      weight = norm->weight, a.eps = norm->eps;
    } else if (const auto* rope = std::get_if<RecordedRope>(&operations_[i])) {
      const bool of_q = rope->x.data == a.q, of_k = rope->x.data == a.k;
      bool& turns = of_q ? q_turns : k_turns;
      const bool other = (q_turns || k_turns) && a.cosine != rope->cosine.data;
      if (!(of_q || of_k) || stored || turns || other || rope->head_dim != heads.head_dim ||
          2 * rope->cosine.cols != heads.head_dim || rope->cosine.stride != rope->sine.stride) {
        return at;
      }
      turns = true;
      a.cosine = rope->cosine.data, a.sine = rope->sine.data, a.angle_stride = rope->cosine.stride;
    }
  }
  if (q_turns != k_turns) return at;
  a.keys = attention->keys.rows, a.values = attention->values.rows;
  a.cache_stride = attention->keys.stride;
  a.half_cache = attention->keys.half;
  a.heads = Narrow(heads.heads), a.kv_heads = Narrow(heads.kv_heads);
  a.head_dim = Narrow(heads.head_dim), a.window = Narrow(heads.window);
  a.sequences = Narrow(tokens_);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads.head_dim)));
  a.spans = inputs_->spans;
  a.out = attention->out.data, a.out_stride = attention->out.stride;
  AttendTokens(a, queue_.stream());
  return end + 1;
}

void Recording::QueueOne(const RecordedOperation& operation, CudaProducts& products) {
  const cudaStream_t stream = queue_.stream();
  if (const auto* norm = std::get_if<RecordedNorm>(&operation)) {
    RmsNorm(norm->x, norm->weight, norm->eps, norm->y, stream);
  } else if (const auto* step = std::get_if<RecordedProducts>(&operation)) {
    products.Multiply(step->x, step->products, step->add);
  } else if (const auto* rope = std::get_if<RecordedRope>(&operation)) {
    Rope(rope->x, rope->cosine, rope->sine, inputs_->positions, rope->head_dim, stream);
  } else if (const auto* store = std::get_if<RecordedStore>(&operation)) {
    StoreToken(store->from, store->cache.rows, store->cache.half, store->cache.stride,
               inputs_->spans, store->span, stream);
  } else if (const auto* gated = std::get_if<RecordedSwiGlu>(&operation)) {
    SwiGlu(gated->gate, gated->up, stream);
  } else if (const auto* other = std::get_if<RecordedOther>(&operation)) {
    other->queue();
  } else {
    const auto& attention = std::get<RecordedAttention>(operation);
    const auto attend = [&]<class Key>() {
      const auto rows = [](const RecordedCache& cache) {
        return Block<const Key>{static_cast<const Key*>(cache.rows), cache.count, cache.stride,
                                cache.stride};
      };
      Attention(AttentionArguments<Key>{.q = attention.q,
                                        .k = rows(attention.keys),
                                        .v = rows(attention.values),
                                        .out = attention.out,
                                        .heads = Narrow(attention.heads.heads),
                                        .kv_heads = Narrow(attention.heads.kv_heads),
                                        .head_dim = Narrow(attention.heads.head_dim),
                                        .window = Narrow(attention.heads.window),
                                        .spans = inputs_->spans,
                                        .tiles = inputs_->tiles,
                                        .tile_count = tokens_},
                /*by_query=*/true, stream);
    };
    if (attention.keys.half) return attend.operator()<std::uint16_t>();
    attend.operator()<float>();
  }
}

}  // namespace lieq::cuda
