#include "lieq/quantize/refine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/kquant_fit.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

Matrix<double> Widened(View<const float, 2> w) {
  Matrix<double> wide(w.rows(), w.cols());
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) wide(r, c) = static_cast<double>(w(r, c));
  }
  return wide;
}

/// Rows of a matrix as refinement takes them.
CodeBlock BlockOf(const QMatrix& q, Index first, Index rows) {
  CodeBlock block(rows, q.cols(), q.grid());
  std::vector<std::uint8_t> codes(Size(q.cols()));
  for (Index r = 0; r < rows; ++r) {
    q.GetRow(first + r, codes);
    for (Index c = 0; c < q.cols(); ++c) block.codes(c, r) = codes[Size(c)];
    for (Index g = 0; g < q.groups(); ++g) block.SetFit(r, g, StoredFit(q, first + r, g));
    for (Index b = 0; b < q.supers(); ++b) block.SetSuper(r, b, q.Super(first + r, b));
  }
  return block;
}

/// e H eᵀ of one row, from the definition.
double RowLoss(View<const double, 2> target, View<const double, 2> h, const QMatrix& q, Index row) {
  Matrix<float> levels(1, q.cols());
  q.Dequantize(row, levels.view());
  std::vector<double> e(Size(q.cols()));
  for (Index i = 0; i < q.cols(); ++i) {
    e[Size(i)] = target(row, i) - static_cast<double>(levels(0, i));
  }
  double loss = 0;
  for (Index i = 0; i < q.cols(); ++i) {
    const double* errors = e.data();  // plain pointers: most of what these tests do, unoptimized
    const double* of_h = &h(i, 0);
    double product = 0;
    for (Index j = 0; j < q.cols(); ++j) product += of_h[j] * errors[j];
    loss += errors[i] * product;
  }
  return loss;
}

struct Case {
  int bits;
  Index group;
  Offset offset;
  Index rows, cols;
  bool k_quant = false;
};

class RefineProperty : public testing::TestWithParam<Case> {
 protected:
  /// Weights and inputs of several kinds, from harmless to hostile.
  static constexpr int kKinds = 5;
  void Make(int kind) {
    const auto [bits, group, offset, rows, cols, k_quant] = GetParam();
    grid = {.bits = bits, .group_size = group, .offset = offset, .k_quant = k_quant};
    w = RandomMatrix(rows, cols, 3 + static_cast<std::uint64_t>(kind), 0.02);
    Matrix<float> x = CorrelatedInputs(2 * cols + 5, cols, 40);
    if (kind == 1) {  // a weight and an input channel of 1e4 times the others
      w(rows / 2, cols / 3) = 200.0f;
      for (Index t = 0; t < x.rows(); ++t) x(t, cols / 2) *= 1e4f;
    }
    if (kind == 2) {  // inputs that never change: rank one
      for (Index t = 1; t < x.rows(); ++t) {
        for (Index c = 0; c < cols; ++c) x(t, c) = x(0, c);
      }
    }
    if (kind == 3) {  // a dead channel, a row of zeros, a row of one value
      for (Index t = 0; t < x.rows(); ++t) x(t, 0) = 0;
      for (Index c = 0; c < cols; ++c) w(0, c) = 0;
      for (Index c = 0; c < cols; ++c) w(rows - 1, c) = 0.25f;
    }
    if (kind == 4) {  // tiny: scales at the smallest that is stored
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < cols; ++c) w(r, c) *= 1e-5f;
      }
    }
    narrow_h = BothTriangles(GramOf(x.view()).view());
    factor = FactorGram(std::as_const(narrow_h).view(), grid, {});
    ASSERT_FALSE(factor.order.empty());
    for (Index i = 0; i < cols; ++i) narrow_h(i, i) = factor.diagonal[Size(i)];
    h = Widened(narrow_h.view());
    target = Widened(w.view());
  }
  QMatrix Start() {
    QMatrix q(w.rows(), w.cols(), grid);
    ForBlocks([&](Index first, View<const float, 2> columns, Index rows) {
      RoundingSums sums;
      RoundByGptq(columns, rows, factor, grid, {}, sums).Store(q, first);
    });
    return q;
  }
  /// In blocks of 64 rows, as the solver does.
  template <class Function>
  void ForBlocks(const Function& block) {
    for (Index first = 0; first < w.rows(); first += 64) {
      const Index rows = std::min<Index>(64, w.rows() - first);
      block(first, ColumnsByRows(std::as_const(w).view().Rows(first, rows)).view(), rows);
    }
  }
  RefineReport Refined(const RefineOptions& options, QMatrix& q) {
    const std::vector<GptqFactor> factors =
        GroupFactors(std::as_const(narrow_h).view(), grid, test.context);
    RefineReport total;
    ForBlocks([&](Index first, View<const float, 2> columns, Index rows) {
      CodeBlock codes = BlockOf(q, first, rows);
      const RefineReport report =
          Refine(columns, {.h = narrow_h.view(), .factors = factors}, options, codes);
      total.after += report.after;
      total.moves += report.moves;
      codes.Store(q, first);
    });
    return total;
  }
  double TotalLoss(const QMatrix& q) {
    double total = 0;
    for (Index r = 0; r < q.rows(); ++r) total += RowLoss(target.view(), h.view(), q, r);
    return total;
  }

  Grid grid;
  Matrix<float> w;
  Matrix<double> target, h;
  Matrix<float> narrow_h;
  GptqFactor factor;
  TestContext test;
};

TEST_P(RefineProperty, NoRowEverGetsWorseAndTheLossIsWhatItSays) {
  for (int kind = 0; kind < kKinds; ++kind) {
    for (const bool search : {false, true}) {
      SCOPED_TRACE(testing::Message() << "kind " << kind << (search ? ", search" : ""));
      Make(kind);
      const QMatrix start = Start();
      QMatrix q = start;

      const RefineReport report = Refined({.rounds = 3, .search = search}, q);

      double before = 0, after = 0;
      for (Index r = 0; r < q.rows(); ++r) {
        const double was = RowLoss(target.view(), h.view(), start, r);
        const double is = RowLoss(target.view(), h.view(), q, r);
        // Rounding of the sums: errors of this size are as good as none.
        const double size = RowLoss(target.view(), h.view(), QMatrix(q.rows(), q.cols(), grid), r);
        EXPECT_LE(is, was + 1e-5 * was + 1e-9 * size) << "row " << r;
        before += was;
        after += is;
      }
      // The report's gradient was kept up by products in float over all rounds.
      EXPECT_NEAR(report.after, after, 1e-3 * before + 1e-12);
      for (Index r = 0; r < q.rows() && !grid.k_quant; ++r) {
        for (const float scale : q.scales().Row(r)) ASSERT_EQ(scale, RoundScale(scale));
        if (grid.offset == Offset::kFloat) {
          for (const float minimum : q.minima().Row(r)) ASSERT_EQ(minimum, RoundMinimum(minimum));
        }
      }
    }
  }
}

TEST_P(RefineProperty, RowsOfThePaddingChangeNothing) {
  Make(0);
  const QMatrix start = Start();
  QMatrix whole = start, alone = start;
  (void)Refined({.rounds = 2, .least_gain = 0}, whole);
  const std::vector<GptqFactor> factors =
      GroupFactors(std::as_const(narrow_h).view(), grid, test.context);
  for (Index r = 0; r < w.rows(); r += 5) {  // one row and fifteen of padding
    CodeBlock codes = BlockOf(start, r, 1);
    (void)Refine(ColumnsByRows(std::as_const(w).view().Rows(r, 1)).view(),
                 {.h = narrow_h.view(), .factors = factors}, {.rounds = 2, .least_gain = 0}, codes);
    codes.Store(alone, r);
    EXPECT_NEAR(RowLoss(target.view(), h.view(), alone, r),
                RowLoss(target.view(), h.view(), whole, r),
                0.02 * RowLoss(target.view(), h.view(), start, r));  // products round otherwise
  }
}

TEST_P(RefineProperty, EndsWhereNoSingleCodeLowersTheLoss) {
  Make(0);
  QMatrix q = Start();
  RefineReport last;
  for (int i = 0; i < 50; ++i) {
    last = Refined({.rounds = 2, .search = false, .least_gain = 0}, q);
    if (last.moves == 0) break;
  }
  ASSERT_EQ(last.moves, 0);

  std::vector<std::uint8_t> codes(Size(q.cols()));
  for (Index r = 0; r < q.rows(); r += 7) {
    const double loss = RowLoss(target.view(), h.view(), q, r);
    q.GetRow(r, codes);
    for (Index c = 0; c < q.cols(); c += 5) {
      const std::uint8_t kept = codes[Size(c)];
      for (int code = 0; code < grid.levels(); ++code) {
        codes[Size(c)] = static_cast<std::uint8_t>(code);
        QMatrix moved = q;
        moved.SetRow(r, codes);
        ASSERT_GE(RowLoss(target.view(), h.view(), moved, r), loss * (1 - 1e-5))
            << "row " << r << ", column " << c << ", code " << code;
      }
      codes[Size(c)] = kept;
    }
  }
}

TEST_P(RefineProperty, EndsWhereNoSingleFactorLowersTheLoss) {
  if (!GetParam().k_quant) GTEST_SKIP() << "has no factors";
  Make(0);
  const KQuant& kind = KQuantOf(grid);
  QMatrix q = Start();
  double before = 2 * TotalLoss(q), after = TotalLoss(q);
  for (int i = 0; i < 50 && after < before; ++i) {
    before = after;
    (void)Refined({.rounds = 2, .search = false, .least_gain = 0}, q);
    after = TotalLoss(q);
  }
  ASSERT_GE(after, before * (1 - 1e-9));

  for (Index r = 0; r < q.rows(); r += 3) {
    const double loss = RowLoss(target.view(), h.view(), q, r);
    const SuperBlock kept = q.Super(r, 0);
    for (std::size_t g = 0; g < Size(kind.groups()); g += 3) {
      for (const int step : {-1, 1}) {
        SuperBlock scale = kept, minimum = kept;
        scale.scales[g] = static_cast<std::int8_t>(MovedScale(kept.scales[g], step, kind));
        if (kind.has_minima()) {
          minimum.minima[g] = static_cast<std::uint8_t>(MovedMinimum(kept.minima[g], step, kind));
        }
        for (const SuperBlock& moved : {scale, minimum}) {
          q.SetSuper(r, 0, moved);
          ASSERT_GE(RowLoss(target.view(), h.view(), q, r), loss * (1 - 1e-5))
              << "row " << r << ", group " << g;
        }
      }
    }
    q.SetSuper(r, 0, kept);
  }
}

TEST_P(RefineProperty, TheSearchFindsMoreThanTheRefitAlone) {
  Make(0);
  QMatrix plain = Start(), searched = plain;
  const double before = TotalLoss(plain);
  (void)Refined({.rounds = 3, .search = false}, plain);
  (void)Refined({.rounds = 3}, searched);
  EXPECT_LT(TotalLoss(plain), before);
  if (GetParam().group > 0) {
    EXPECT_LT(TotalLoss(searched), TotalLoss(plain));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Grids, RefineProperty,
    testing::Values(Case{2, 64, Offset::kSymmetric, 70, 192}, Case{2, 16, Offset::kFloat, 33, 160},
                    Case{2, 32, Offset::kHalf, 64, 96}, Case{2, 64, Offset::kInteger, 65, 128},
                    Case{3, 32, Offset::kSymmetric, 20, 96}, Case{3, 0, Offset::kFloat, 9, 130},
                    Case{4, 64, Offset::kInteger, 20, 128},
                    Case{2, 16, Offset::kFloat, 33, 256, true},
                    Case{3, 16, Offset::kSymmetric, 20, 256, true},
                    Case{4, 32, Offset::kFloat, 9, 256, true}));

}  // namespace
}  // namespace lieq
