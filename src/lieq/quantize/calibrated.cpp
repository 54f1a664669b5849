#include "lieq/quantize/calibrated.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/local_group.h"
#include "lieq/quantize/refine.h"
#include "lieq/quantize/target.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;

/// What some rows add to the report of their matrix.
struct RowSums {
  RoundingSums rounding;
  double refined = 0;
  Index moves = 0, kept = 0;
  double held_out_start = 0, held_out = 0;

  /// Counts a row's errors before and after; true where it is better than before, or the same.
  bool Judge(double before, double after) {
    const bool better = after <= before;
    held_out_start += before;
    held_out += better ? after : before;
    kept += better ? 0 : 1;
    return better;
  }
};

class CalibratedSolver : public UnitSolver {
 public:
  CalibratedSolver(CalibrationStatistics statistics, const QuantOptions& options, Context& context)
      : options_(options), context_(context) {
    UnitStatistics& fit = statistics.fit;
    importance_ = Importance(fit);
    gram_ = std::move(fit.gram);
    corrections_ = {std::move(fit.drift), std::move(fit.missing)};
    held_out_ = std::move(statistics.held_out);
  }

  void RoundOn(Device& device) override {
    device_ = device.rounding() != nullptr ? &device : nullptr;
    if (device_ == nullptr) return;
    CalibrationOps& sums = RequireCalibration(device);
    gram_.PlaceOn(sums);
    const auto place = [&](auto& corrections) {
      corrections.drift.PlaceOn(sums);
      corrections.missing.PlaceOn(sums);
    };
    place(corrections_);
    if (!held_out_) return;
    held_out_->gram.PlaceOn(sums);
    place(*held_out_);
  }

  QMatrix Quantize(const LinearFloats& w, const Grid& grid, double multiple,
                   LinearReport& report) override {
    const auto begin = std::chrono::steady_clock::now();
    const bool on_device = RoundsOnDevice(grid);
    const GptqFactor& factor = on_device ? DeviceFactor(grid) : HostFactor(grid);
    report.retries = factor.retries;
    report.dead_columns = factor.dead_columns;
    report.damping = factor.order.empty() ? 0 : factor.damping;
    QMatrix q;
    if (factor.order.empty()) {
      report.fell_back = true;
      q = QuantizeRtn(w.host(), importance_, grid, options_.clip, context_, report);
    } else if (on_device) {
      q = RoundMatrix(w, grid, multiple, report);
    } else {
      BringSums();
      const View<const float, 2> host = w.host();
      q = QMatrix(w.rows(), w.cols(), grid);
      const Index tasks = CeilDiv(w.rows(), kRowsPerTask);
      std::vector<RowSums> sums(Size(tasks));
      context_.pool.ParallelFor(tasks, [&](Index task, int) {
        const Index first = task * kRowsPerTask;
        const View<const float, 2> rows =
            host.Rows(first, std::min(kRowsPerTask, w.rows() - first));
        sums[Size(task)] = RoundRows(rows, first, multiple, q);
      });
      Add(sums, w.rows(), w.size(), report);
    }
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return q;
  }

 private:
  [[nodiscard]] bool refines() const noexcept { return *options_.rounds > 0; }

  /// Factorised once, on the device where that has what it takes, and placed there: the order of
  /// columns is the same for all grids that are rounded on it.
  const GptqFactor& DeviceFactor(const Grid& grid) {
    RoundingOps& ops = *device_->rounding();
    if (ops.factorizes()) {
      if (!device_factor_) {
        device_factor_ = FactorGramOn(ops, gram_.placed(), importance_, grid, options_, refines());
        placed_ = device_factor_->placed;
      }
      return device_factor_->factor;
    }
    const GptqFactor& factor = HostFactor(grid);
    if (placed_ == nullptr && !factor.order.empty()) {
      placed_ = ops.Place(factor.feedback.view(), factor.pivots, factor.order,
                          refines() ? std::as_const(h_).view() : View<const float, 2>());
    }
    return factor;
  }

  /// Before rows are worked on side by side, which ask for sums without waiting for one another.
  void BringSums() const {
    const auto bring = [](const auto& sums) {
      (void)sums.drift.host();
      (void)sums.missing.host();
    };
    bring(corrections_);
    if (!held_out_) return;
    (void)held_out_->gram.host();
    bring(*held_out_);
  }

  /// Factorises once for all grids whose columns are rounded in the same order.
  const GptqFactor& HostFactor(const Grid& grid) {
    const Index columns = GroupColumns(grid, static_cast<Index>(importance_.size()));
    if (factored_ < 0) h_ = BothTriangles(gram_.view());
    if (device_ == nullptr) gram_ = {};  // else other grids may be the device's
    if (factored_ < 0 || (options_.act_order == ActOrder::kGroup && columns != factored_)) {
      for (Index i = 0; i < h_.rows(); ++i) h_(i, i) = importance_[Size(i)];
      factor_ = FactorGram(std::as_const(h_).view(), grid, options_, &context_.pool);
      factored_ = columns;
      if (*options_.rounds == 0 && options_.act_order != ActOrder::kGroup) h_ = {};
      for (Index i = 0; i < h_.rows(); ++i) h_(i, i) = factor_.diagonal[Size(i)];
      grouped_ = 0;
    }
    if (*options_.rounds == 0 || factor_.order.empty() || grouped_ == columns) return factor_;
    group_factors_ = GroupFactors(std::as_const(h_).view(), grid, context_);
    grouped_ = columns;
    return factor_;
  }

  /// Whether what is to be done is all that a device does: grids with a zero, of no super-blocks,
  /// fitted before the pass, and groups that a search takes where there is one.
  [[nodiscard]] bool RoundsOnDevice(const Grid& grid) const {
    constexpr Index kMostColumns = 16384;  // of a group: what its importance takes of fast memory
    const Index columns = GroupColumns(grid, static_cast<Index>(importance_.size()));
    const bool before = options_.act_order == ActOrder::kStatic ||
                        columns == static_cast<Index>(importance_.size());
    return device_ != nullptr && before && !grid.k_quant && grid.offset != Offset::kFloat &&
           columns <= (refines() ? kWidestSearched : kMostColumns);
  }

  /// Factors of H inside the groups, one after another, as a device reads them.
  struct GroupFactorsOfDevice {
    Matrix<float> feedback;  // [n, group columns]
    std::vector<float> pivots;
    std::vector<Index> order;
  };
  const GroupFactorsOfDevice& DeviceGroups(const Grid& grid) {
    const auto n = static_cast<Index>(importance_.size());
    const Index columns = GroupColumns(grid, n);
    if (device_groups_.feedback.cols() == columns) return device_groups_;
    Matrix<float> blocks(n, columns);
    device_->rounding()->Blocks(*placed_, blocks.view());
    device_groups_ = {Matrix<float>(n, columns), {}, {}};
    Index first = 0;
    for (const GptqFactor& factor :
         GroupFactorsOfBlocks(std::as_const(blocks).view(), grid, context_)) {
      if (factor.order.empty()) {  // a pivot of 0 says so
        device_groups_.pivots.resize(device_groups_.pivots.size() + Size(columns));
        device_groups_.order.resize(device_groups_.order.size() + Size(columns));
        first += columns;
        continue;
      }
      std::copy_n(factor.feedback.data(), factor.feedback.size(),
                  device_groups_.feedback.view().Row(first).data());
      device_groups_.pivots.insert(device_groups_.pivots.end(), factor.pivots.begin(),
                                   factor.pivots.end());
      device_groups_.order.insert(device_groups_.order.end(), factor.order.begin(),
                                  factor.order.end());
      first += columns;
    }
    return device_groups_;
  }

  /// stretches: outlive what is returned.
  RefineWork RefineWorkOf(const Grid& grid, std::span<const double> stretches) {
    const GroupFactorsOfDevice& groups = DeviceGroups(grid);
    RefineWork work{.rounds = *options_.rounds,
                    .least_gain = RefineOptions().least_gain,
                    .least_share = kLeastGain,
                    .stretches = {},
                    .feedback = groups.feedback.view(),
                    .pivots = groups.pivots,
                    .order = groups.order};
    if (*options_.search) work.stretches = stretches;
    if (!held_out_) return work;
    work.gram = held_out_->gram.get();
    work.drift = held_out_->drift.get();
    work.missing = held_out_->missing.get();
    return work;
  }

  QMatrix RoundMatrix(const LinearFloats& w, const Grid& grid, double multiple,
                      LinearReport& report) {
    const Index rows = w.rows();
    QMatrix q(rows, w.cols(), grid);
    Matrix<std::uint8_t> codes(rows, w.cols());
    Matrix<float> scale(rows, q.groups()), minimum(rows, q.groups());
    struct {
      std::vector<double> error, signal, clamped, refined, moves, before, after;
    } of_rows;
    for (auto* values : {&of_rows.error, &of_rows.signal, &of_rows.clamped, &of_rows.refined,
                         &of_rows.moves, &of_rows.before, &of_rows.after}) {
      values->resize(Size(rows));
    }
    const bool judges = refines() && held_out_.has_value();
    const std::vector<double> stretches = Stretches(grid.offset);
    const RefineWork refine = refines() ? RefineWorkOf(grid, stretches) : RefineWork{};
    const double strength = options_.drift->At(grid.bits);
    device_->rounding()->Round(
        {.w = w.placed() != nullptr ? View<const float, 2>() : w.host(),
         .placed = w.placed(),
         .factor = *placed_,
         .bits = grid.bits,
         .group_columns = q.group_columns(),
         .offset = grid.offset,
         .search = options_.clip == Clip::kSearch,
         .drift = options_.corrects() && strength != 0 ? corrections_.drift.get() : nullptr,
         .missing = options_.corrects() ? corrections_.missing.get() : nullptr,
         .drift_strength = strength,
         .multiple = multiple,
         .refine = refines() ? &refine : nullptr},
        {.codes = codes.view(),
         .scale = scale.view(),
         .minimum = minimum.view(),
         .error = of_rows.error,
         .signal = of_rows.signal,
         .clamped = of_rows.clamped,
         .refined = of_rows.refined,
         .moves = of_rows.moves,
         .judged_before = of_rows.before,
         .judged_after = of_rows.after});
    context_.pool.ParallelFor(CeilDiv(rows, kRowsPerTask), [&](Index task, int) {
      const Index first = task * kRowsPerTask, end = std::min(rows, first + kRowsPerTask);
      for (Index r = first; r < end; ++r) {
        q.SetRow(r, codes.view().Row(r));
        for (Index g = 0; g < q.groups(); ++g) {
          StoreFit(GroupFit{scale(r, g), minimum(r, g)}, r, g, q);
        }
      }
    });
    RowSums sums;
    const auto total = [](const std::vector<double>& values) {
      return std::accumulate(values.begin(), values.end(), 0.0);
    };
    sums.rounding = {.error = total(of_rows.error),
                     .signal = total(of_rows.signal),
                     .clamped = static_cast<Index>(total(of_rows.clamped))};
    sums.refined = total(of_rows.refined);
    sums.moves = static_cast<Index>(total(of_rows.moves));
    for (std::size_t r = 0; judges && r < of_rows.before.size(); ++r) {
      sums.Judge(of_rows.before[r], of_rows.after[r]);
    }
    Add({&sums, 1}, rows, w.size(), report);
    return q;
  }

  /// From weights to codes: rows know nothing of one another, so these never leave the cache.
  RowSums RoundRows(View<const float, 2> w, Index first, double multiple, QMatrix& q) const {
    RowSums sums;
    Matrix<float> corrected;
    if (options_.corrects()) corrected = Target(w, first, multiple, q.grid());
    const Matrix<float> target =
        ColumnsByRows(options_.corrects() ? std::as_const(corrected).view() : w);
    CodeBlock block =
        RoundByGptq(target.view(), w.rows(), factor_, q.grid(), options_, sums.rounding);
    if (*options_.rounds > 0) Refined(w, target.view(), first, multiple, block, sums);
    block.Store(q, first);
    return sums;
  }

  [[nodiscard]] Matrix<float> Target(View<const float, 2> w, Index first, double multiple,
                                     const Grid& grid) const {
    return CorrectedTarget(w, first,
                           {.drift = corrections_.drift.view(),
                            .missing = corrections_.missing.view(),
                            .drift_strength = options_.drift->At(grid.bits),
                            .multiple = multiple},
                           factor_);
  }

  /// Refines, and takes back the rows that lost by it on the windows held out.
  void Refined(View<const float, 2> w, View<const float, 2> target, Index first, double multiple,
               CodeBlock& block, RowSums& sums) const {
    const CodeBlock start = block.Clone();
    const RefineReport refined =
        Refine(target, {.h = h_.view(), .factors = group_factors_},
               {.rounds = *options_.rounds, .search = *options_.search}, block);
    sums.refined = refined.after;
    sums.moves = refined.moves;
    if (!held_out_) return;
    const RowJudge judge(w, first, *held_out_, multiple);
    const std::vector<double> before = judge.Errors(Levels(start).view());
    const std::vector<double> after = judge.Errors(Levels(block).view());
    for (Index r = 0; r < w.rows(); ++r) {
      if (!sums.Judge(before[Size(r)], after[Size(r)])) block.CopyRow(r, start);
    }
  }

  /// Row by row.
  [[nodiscard]] static Matrix<float> Levels(const CodeBlock& block) {
    Matrix<float> levels(block.rows(), block.cols());
    for (Index c = 0; c < block.cols(); ++c) {
      for (Index r = 0; r < block.rows(); ++r) levels(r, c) = block.Level(c, r);
    }
    return levels;
  }

  void Add(std::span<const RowSums> sums, Index rows, Index weights, LinearReport& report) const {
    double refined = 0;
    Index clamped = 0, kept = 0;
    for (const RowSums& part : sums) {
      report.error += part.rounding.error;
      report.signal += part.rounding.signal;
      refined += part.refined;
      report.moves += part.moves;
      report.held_out_start += part.held_out_start;
      report.held_out += part.held_out;
      clamped += part.rounding.clamped;
      kept += part.kept;
    }
    report.clamped = static_cast<double>(clamped) / static_cast<double>(weights);
    if (*options_.rounds == 0) return;
    report.start_error = std::exchange(report.error, refined);
    report.kept_rows = static_cast<double>(kept) / static_cast<double>(rows);
  }

  const QuantOptions& options_;
  Context& context_;
  Device* device_ = nullptr;       // that rounds; null: the processor
  std::vector<float> importance_;  // the diagonal of the Gram matrix
  Sums<double> gram_;              // as it was measured, until nothing asks for it any more
  std::optional<PlacedFactor> device_factor_;
  PlacedGptqFactor placed_;
  GroupFactorsOfDevice device_groups_;
  Matrix<float> h_;  // the Gram matrix with the factor's damping, where it is needed once more
  GptqFactor factor_;
  Index factored_ = -1;  // columns of the groups that the order was made for
  std::vector<GptqFactor> group_factors_;
  Index grouped_ = 0;  // their columns
  struct {
    Sums<float> drift, missing;
  } corrections_;
  std::optional<OutputStatistics> held_out_;
};

}  // namespace

std::unique_ptr<UnitSolver> BeginCalibrated(CalibrationStatistics statistics,
                                            const QuantOptions& options, Context& context) {
  return std::make_unique<CalibratedSolver>(std::move(statistics), options, context);
}

std::vector<float> Importance(const UnitStatistics& statistics) {
  const std::vector<double> diagonal = statistics.gram.Diagonal();
  return {diagonal.begin(), diagonal.end()};
}

Matrix<float> BothTriangles(View<const double, 2> lower) {
  constexpr Index kTile = 64;  // columns are written within the cache
  const Index n = lower.rows();
  Matrix<float> whole(n, n);
  for (Index first = 0; first < n; first += kTile) {
    for (Index begin = 0; begin <= first; begin += kTile) {
      for (Index i = first; i < std::min(n, first + kTile); ++i) {
        for (Index j = begin; j <= std::min(i, begin + kTile - 1); ++j) {
          whole(i, j) = whole(j, i) = static_cast<float>(lower(i, j));
        }
      }
    }
  }
  return whole;
}

OutputStatistics OutputStatisticsOf(const UnitStatistics& statistics) {
  return {.gram = BothTriangles(statistics.gram.view()),
          .drift = statistics.drift.Clone(),
          .missing = statistics.missing.Clone()};
}

RowJudge::RowJudge(View<const float, 2> w, Index first, const OutputStatistics& statistics,
                   double multiple)
    : w_(w), statistics_(statistics) {
  const Matrix<float>&missing = statistics.missing.host(), &missed = statistics.missed;
  if (missing.size() == 0 && statistics.drift.size() == 0 && missed.size() == 0) return;
  const auto twice = static_cast<float>(2 * multiple);
  linear_ = Matrix<float>(w.rows(), statistics.inputs.size() > 0 ? missed.rows() : w.cols());
  for (Index r = 0; r < w.rows(); ++r) {
    const std::span<float> row = linear_.view().Row(r);
    if (missing.size() > 0) {
      std::ranges::transform(missing.view().Row(first + r), row.begin(),
                             [&](float value) { return twice * value; });
    }
    for (Index t = 0; t < missed.rows(); ++t) row[Size(t)] = twice * missed(t, first + r);
  }
  if (statistics.drift.size() > 0) {
    Gemm(2.0f, w, Transpose::kNo, statistics.drift.view(), Transpose::kNo, 1.0f, linear_.view());
  }
}

std::vector<double> RowJudge::Errors(View<const float, 2> levels) const {
  Matrix<float> error(w_.rows(), w_.cols());
  for (Index r = 0; r < w_.rows(); ++r) {
    for (Index c = 0; c < w_.cols(); ++c) error(r, c) = w_(r, c) - levels(r, c);
  }
  // Both are a sum of (p + linear) q: over inputs with p = e H and q = e, or over tokens with p and
  // q what e makes of them.
  const bool tokens = statistics_.inputs.size() > 0;
  Matrix<float> product(w_.rows(), tokens ? statistics_.inputs.rows() : w_.cols());
  if (tokens) {
    Gemm(1.0f, error.view(), Transpose::kNo, statistics_.inputs.view(), Transpose::kYes, 0.0f,
         product.view());
  } else {
    Gemm(1.0f, error.view(), Transpose::kNo, statistics_.gram.view(), Transpose::kNo, 0.0f,
         product.view());
  }
  const Matrix<float>& factor = tokens ? product : error;
  std::vector<double> errors(Size(w_.rows()));
  for (Index r = 0; r < w_.rows(); ++r) {
    for (Index c = 0; c < product.cols(); ++c) {
      const float linear = linear_.size() > 0 ? linear_(r, c) : 0.0f;
      errors[Size(r)] +=
          static_cast<double>(factor(r, c)) * static_cast<double>(product(r, c) + linear);
    }
  }
  return errors;
}

std::vector<double> OutputErrors(View<const float, 2> w, const QMatrix& q,
                                 const OutputStatistics& statistics, Context& context,
                                 double multiple) {
  LIEQ_ASSERT(q.rows() == w.rows() && q.cols() == w.cols());
  LIEQ_ASSERT(std::max(statistics.gram.cols(), statistics.inputs.cols()) == w.cols());
  std::vector<double> errors(Size(w.rows()));
  context.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
    const Index first = task * kRowsPerTask, rows = std::min(kRowsPerTask, w.rows() - first);
    Matrix<float> levels(rows, w.cols());
    q.Dequantize(first, levels.view());
    const auto found =
        RowJudge(w.Rows(first, rows), first, statistics, multiple).Errors(levels.view());
    std::ranges::copy(found, errors.begin() + first);
  });
  return errors;
}

}  // namespace lieq
