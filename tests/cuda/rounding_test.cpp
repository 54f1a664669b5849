// GPTQ of whole matrices on a GPU, against the processor's.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lieq/linalg/linalg.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/quantizers.h"
#include "tests/cuda/both_devices.h"

namespace lieq {
namespace {

struct RoundingCase {
  Index rows, columns;
  Grid grid;
  Clip clip = Clip::kSearch;
  ActOrder order = ActOrder::kStatic;
};

class CudaRounding : public BothDevices {
 protected:
  struct Outcome {
    QMatrix matrix;
    LinearReport report;
  };
  Outcome Round(const RoundingCase& one, Device& device) {
    return Round(one, GramOf(CorrelatedInputs(2 * one.columns, one.columns, 3).view()), 0.01,
                 device);
  }
  Outcome Round(const RoundingCase& one, Matrix<double> gram, double damping, Device& device) {
    const QuantOptions options = WithDefaults(
        {.method = "gptq", .act_order = one.order, .clip = one.clip, .damping = damping});
    const auto solver = FindQuantizer("gptq").begin(
        {.fit = {.gram = std::move(gram), .drift = {}, .missing = {}}, .held_out = std::nullopt},
        options, test.context);
    solver->RoundOn(device);
    Matrix<float> w = RandomMatrix(one.rows, one.columns, 4, 0.05);
    for (Index c = 0; c < std::min<Index>(4, one.columns); ++c) w(0, c) = 0;  // a group of zeros
    w(one.rows - 1, one.columns - 1) = 3;                                     // and an outlier
    Outcome outcome;
    outcome.matrix = solver->Quantize(w.view(), one.grid, 1, outcome.report);
    return outcome;
  }
};

/// The share of codes and scales that two matrices have in common.
double InCommon(const QMatrix& a, const QMatrix& b) {
  Index same = 0;
  std::vector<std::uint8_t> of_a(Size(a.cols())), of_b(Size(a.cols()));
  for (Index r = 0; r < a.rows(); ++r) {
    a.GetRow(r, of_a);
    b.GetRow(r, of_b);
    for (Index c = 0; c < a.cols(); ++c) {
      const Index g = c / a.group_columns();
      const bool alike = of_a[Size(c)] == of_b[Size(c)] && a.scales()(r, g) == b.scales()(r, g);
      same += alike && (a.zeros().size() == 0 || a.zeros()(r, g) == b.zeros()(r, g)) ? 1 : 0;
    }
  }
  return static_cast<double>(same) / static_cast<double>(a.rows() * a.cols());
}

TEST_F(CudaRounding, GivesTheProcessorsCodesButForOnesThatRoundingParts) {
  std::vector<RoundingCase> cases;
  for (const int bits : {2, 3, 4, 8}) {
    for (const Offset offset : {Offset::kSymmetric, Offset::kHalf, Offset::kInteger}) {
      cases.push_back({70, 96, {.bits = bits, .group_size = 32, .offset = offset}});
      cases.push_back({1, 33, {.bits = bits, .group_size = 0, .offset = offset}});
      cases.push_back({200, 384, {.bits = bits, .group_size = 64, .offset = offset}, Clip::kNone});
    }
  }
  cases.push_back({130, 384, {.bits = 2, .group_size = 128}});
  cases.push_back({64, 512, {.bits = 2, .group_size = 0}});  // too many values to be staged
  cases.push_back({65, 300, {.bits = 3, .group_size = 0}, Clip::kSearch, ActOrder::kNone});
  cases.push_back({3, 4, {.bits = 2, .group_size = 4}});
  for (const RoundingCase& one : cases) {
    const Outcome a = Round(one, *cpu), b = Round(one, *gpu);
    const std::string name = std::to_string(one.rows) + "x" + std::to_string(one.columns) + ", " +
                             std::to_string(one.grid.bits) + " bits, " +
                             std::string(Name(one.grid.offset));
    EXPECT_GE(InCommon(a.matrix, b.matrix), 0.97) << name;
    EXPECT_NEAR(a.report.error, b.report.error, 0.01 * a.report.error) << name;
    EXPECT_NEAR(a.report.signal, b.report.signal, 1e-4 * a.report.signal) << name;
    EXPECT_NEAR(a.report.clamped, b.report.clamped, 0.01) << name;
  }
}

TEST_F(CudaRounding, GivesTheSameBytesEachTime) {
  const RoundingCase one{200, 384, {.bits = 2, .group_size = 64}};
  const Outcome a = Round(one, *gpu), b = Round(one, *gpu);
  EXPECT_EQ(InCommon(a.matrix, b.matrix), 1);
  EXPECT_EQ(a.report.error, b.report.error);
}

TEST_F(CudaRounding, TakesAFactorOfTheProcessorWhereTheLibraryIsNot) {
  const WithoutLibraries none;
  const auto own = MakeCudaDevice(test.pool);
  ASSERT_FALSE(own->rounding()->factorizes());
  for (const RoundingCase& one : {RoundingCase{70, 96, {.bits = 2, .group_size = 32}},
                                  RoundingCase{200, 384, {.bits = 4, .group_size = 64}}}) {
    EXPECT_GE(InCommon(Round(one, *cpu).matrix, Round(one, *own).matrix), 0.97);
  }
}

TEST_F(CudaRounding, RaisesDampingAsTheProcessorWhereAGramIsNotDefinite) {
  const Index n = 96;
  const Matrix<float> inputs = CorrelatedInputs(20, n, 3);  // of rank 20
  const auto indefinite = [&] {
    Matrix<double> gram = GramOf(inputs.view());
    for (Index i = 0; i < n; ++i) gram(i, i) *= 0.999;
    return gram;
  };
  const RoundingCase one{70, n, {.bits = 4, .group_size = 32}};
  const Outcome a = Round(one, indefinite(), 0, *cpu), b = Round(one, indefinite(), 0, *gpu);
  EXPECT_GT(a.report.retries, 0);
  EXPECT_EQ(a.report.retries, b.report.retries);
  EXPECT_EQ(a.report.damping, b.report.damping);
  // And what no damping helps is rounded to nearest.
  Matrix<double> hopeless(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) hopeless(i, j) = i == j ? 1 : 100;
  }
  EXPECT_TRUE(Round(one, hopeless.Clone(), 0.01, *gpu).report.fell_back);
  EXPECT_TRUE(Round(one, hopeless.Clone(), 0.01, *cpu).report.fell_back);
}

/// Sums over tokens of a unit whose inputs have drifted, those of `adds` by the stream too.
CalibrationStatistics DriftedSums(Index columns, Index rows, bool adds, bool held_out) {
  const Index tokens = 3 * columns;
  const Matrix<float> u = CorrelatedInputs(tokens, columns, 5);
  const Matrix<float> missed = RandomMatrix(tokens, adds ? rows : columns, 6, adds ? 0.02 : 0.1);
  const auto sums = [&](Index first, Index count) {
    Matrix<float> cross(missed.cols(), columns);
    Gemm(1.0f, missed.view().Rows(first, count), Transpose::kYes, u.view().Rows(first, count),
         Transpose::kNo, 0.0f, cross.view());
    return cross;
  };
  const Index fitted = held_out ? 2 * columns : tokens;
  CalibrationStatistics statistics;
  statistics.fit.gram = GramOf(u.view().Rows(0, fitted));
  (adds ? statistics.fit.missing : statistics.fit.drift) = sums(0, fitted);
  if (!held_out) return statistics;
  OutputStatistics& judged = statistics.held_out.emplace();
  judged.gram = BothTriangles(GramOf(u.view().Rows(fitted, columns)).view());
  (adds ? judged.missing : judged.drift) = sums(fitted, columns);
  return statistics;
}

struct RefineCase {
  Index rows, columns;
  Grid grid;
  bool adds = false, held_out = true;
  double multiple = 1;
  QuantOptions options = {};
};

TEST_F(CudaRounding, RefinesAsWellAsTheProcessor) {
  std::vector<RefineCase> cases;
  for (const int bits : {2, 3, 4}) {
    for (const Offset offset : {Offset::kSymmetric, Offset::kHalf, Offset::kInteger}) {
      const bool adds = offset != Offset::kHalf;
      cases.push_back({70, 96, {.bits = bits, .group_size = 32, .offset = offset}, adds});
      cases.push_back({33, 192, {.bits = bits, .group_size = 64, .offset = offset}, !adds});
    }
  }
  cases.push_back({130, 384, {.bits = 2, .group_size = 128}, false, false});
  cases.push_back({9, 512, {.bits = 2, .group_size = 256}, true, true, 4});
  cases.push_back({1, 48, {.bits = 8, .group_size = 16}});
  cases.push_back({20, 80, {.bits = 3, .group_size = 0}, true});
  cases.push_back({64, 144, {.bits = 2, .group_size = 48}, false, true, 1, {.search = false}});
  cases.push_back(
      {64, 96, {.bits = 2, .group_size = 32}, false, true, 1, {.drift = 0, .rounds = 1}});
  for (const RefineCase& one : cases) {
    QuantOptions given = one.options;
    given.method = "best";
    const QuantOptions options = WithDefaults(given);
    const Matrix<float> w = RandomMatrix(one.rows, one.columns, 4, 0.05);
    std::array<QMatrix, 2> found;
    std::array<LinearReport, 2> reports;
    for (const std::size_t i : {0u, 1u}) {
      const auto solver = FindQuantizer("best").begin(
          DriftedSums(one.columns, one.rows, one.adds, one.held_out), options, test.context);
      solver->RoundOn(i == 0 ? *cpu : *gpu);
      found[i] = solver->Quantize(w.view(), one.grid, one.multiple, reports[i]);
    }
    const auto& [a, b] = reports;
    const std::string name = std::to_string(one.rows) + "x" + std::to_string(one.columns) + ", " +
                             std::to_string(one.grid.bits) + " bits, " +
                             std::string(Name(one.grid.offset)) + (one.adds ? ", adds" : "");
    EXPECT_NEAR(a.signal, b.signal, 1e-3 * a.signal) << name;
    EXPECT_NEAR(a.start_error, b.start_error, 0.02 * a.start_error) << name;
    EXPECT_NEAR(a.error, b.error, 0.02 * a.error) << name;
    EXPECT_LE(b.error, b.start_error * (1 + 1e-5)) << name;
    EXPECT_GE(InCommon(found[0], found[1]), 0.8) << name;
    if (!one.held_out) continue;
    // The errors that rows were judged by are those of what was written.
    const CalibrationStatistics again = DriftedSums(one.columns, one.rows, one.adds, true);
    double written = 0, size = 0;
    for (const double error :
         OutputErrors(w.view(), found[1], *again.held_out, test.context, one.multiple)) {
      written += error;
      size += std::fabs(error);
    }
    EXPECT_NEAR(b.held_out, written, 1e-3 * size) << name;
    EXPECT_LE(b.held_out, b.held_out_start) << name;
  }
}

TEST_F(CudaRounding, RefinesToTheSameBytesEachTime) {
  std::array<QMatrix, 2> found;
  for (QMatrix& each : found) {
    LinearReport report;
    const QuantOptions options = WithDefaults({.method = "best"});
    const auto solver =
        FindQuantizer("best").begin(DriftedSums(192, 70, true, true), options, test.context);
    solver->RoundOn(*gpu);
    each = solver->Quantize(RandomMatrix(70, 192, 4, 0.05).view(), {.bits = 2, .group_size = 64}, 1,
                            report);
  }
  EXPECT_EQ(InCommon(found[0], found[1]), 1);
}

TEST_F(CudaRounding, TakesWeightsFromWhereTheyLie) {
  const Matrix<float> w = RandomMatrix(70, 96, 4, 0.05);
  const Prepared placed = gpu->Prepare(w.view());
  EXPECT_EQ(gpu->rounding()->LargestSize(*placed),
            std::fabs(*std::ranges::max_element(std::span(w.data(), Size(w.size())), {},
                                                [](float v) { return std::fabs(v); })));
  std::array<QMatrix, 2> found;
  for (const std::size_t i : {0u, 1u}) {
    LinearReport report;
    const QuantOptions options = WithDefaults({.method = "gptq"});
    const auto solver =
        FindQuantizer("gptq").begin(DriftedSums(96, 70, false, false), options, test.context);
    solver->RoundOn(*gpu);
    const auto widen = []() -> Matrix<float> { throw std::logic_error("nobody asks the host"); };
    found[i] = solver->Quantize(i == 0 ? LinearFloats(w.view()) : LinearFloats(*placed, 1, widen),
                                {.bits = 2, .group_size = 32}, 1, report);
  }
  EXPECT_EQ(InCommon(found[0], found[1]), 1);
  Matrix<float> spoilt = w.Clone();
  spoilt(69, 95) = NAN;
  EXPECT_TRUE(std::isnan(gpu->rounding()->LargestSize(*gpu->Prepare(spoilt.view()))));
}

TEST_F(CudaRounding, LeavesToTheProcessorWhatItDoesNotDo) {
  // To the bit, since nothing of it runs on the GPU.
  for (const RoundingCase& one :
       {RoundingCase{70, 96, {.bits = 2, .group_size = 32, .offset = Offset::kFloat}},
        RoundingCase{70, 256, KQuantOfBits(2)->grid},
        RoundingCase{70, 96, {.bits = 2, .group_size = 32}, Clip::kSearch, ActOrder::kGroup}}) {
    EXPECT_EQ(InCommon(Round(one, *cpu).matrix, Round(one, *gpu).matrix), 1);
  }
}

}  // namespace
}  // namespace lieq
