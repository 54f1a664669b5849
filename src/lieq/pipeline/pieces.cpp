#include "lieq/pipeline/pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/diagnose/spectrum.h"
#include "lieq/model/forward.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/plan/plan.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr Index kRowsPerTask = 64;      // of the calibrated quantizers
constexpr Index kMostColumns = 2048;    // of what is timed; wider is reckoned from there
constexpr double kMostProducts = 2e10;  // multiply-adds of a timed forward pass

/// A power of what is left out, where `columns` is more than is timed.
double Beyond(Index columns, Index timed, int power) {
  return std::pow(static_cast<double>(columns) / static_cast<double>(timed), power);
}

/// The columns that are timed: whole groups.
Index TimedColumns(Index columns, const Grid& grid) {
  if (columns <= kMostColumns) return columns;
  const Index step = grid.group_size == 0 && !grid.k_quant ? 1 : RowStep(grid, columns);
  return std::max(step, kMostColumns / step * step);
}

Matrix<float> NormalRows(Index rows, Index columns, std::uint64_t stream) {
  Matrix<float> matrix(rows, columns);
  Rng rng(0, stream);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(rng.Normal());
  return matrix;
}

/// Inputs as activations have them: neighbours depend on one another, and few channels are large.
Matrix<double> LikeAGram(Index n, double factor) {
  constexpr double kCorrelation = 0.8;
  Rng rng(0, 0x9a3);
  std::vector<double> scale(Size(n)), power(Size(n));
  for (double& value : scale) value = std::exp(0.5 * rng.Normal());
  for (Index i = 0; i < n; ++i) power[Size(i)] = std::pow(kCorrelation, static_cast<double>(i));
  Matrix<double> gram(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      gram(i, j) = factor * scale[Size(i)] * scale[Size(j)] * power[Size(std::abs(i - j))];
    }
  }
  return gram;
}

/// Of a matrix [rows, n].
CalibrationStatistics LikeStatistics(Index n, Index rows, const QuantOptions& options, bool adds,
                                     Index held_out) {
  CalibrationStatistics statistics;
  UnitStatistics& fit = statistics.fit;
  fit.gram = LikeAGram(n, 1000);
  if (options.corrects() && adds) fit.missing = Matrix<float>(rows, n);
  if (options.corrects() && !adds) fit.drift = BothTriangles(LikeAGram(n, 10).view());
  if (held_out == 0) return statistics;
  if (!JudgedByTokens(held_out, n, adds, options.corrects())) {
    statistics.held_out = OutputStatisticsOf(fit);
    return statistics;
  }
  OutputStatistics& judged = statistics.held_out.emplace();
  judged.inputs = NormalRows(held_out, n, 8);
  if (options.corrects()) judged.missed = Matrix<float>(held_out, rows);
  return statistics;
}

/// What of the options decides how long rounding takes.
std::string Settings(const Grid& grid, const QuantOptions& options) {
  return fmt::format("{} {} {} {} {} {} {}", Label(grid), options.method, Name(options.act_order),
                     Name(options.clip), *options.rounds, *options.search, options.corrects());
}

LayerWeights Packed(const LayerWeights& layer, const Grid& grid, Context& context) {
  LayerWeights packed = layer;
  for (const Site site : kAllSites) {
    const AnyMatrix& weight = layer.At(site).weight;
    if (Rows(weight) == 0 || Cols(weight) % RowStep(grid, Cols(weight)) != 0) continue;
    Matrix<float> w(Rows(weight), Cols(weight));
    WidenRows(weight, 0, w.view());
    LinearReport report;
    packed.At(site).weight = std::make_shared<const QMatrix>(
        QuantizeRtn(w.view(), {}, grid, Clip::kNone, context, report));
  }
  return packed;
}

}  // namespace

Pieces::Pieces(const ModelFolder& model, Machine& machine, Session& session)
    : model_(model), machine_(machine), session_(session) {}

double Pieces::Threads() const {
  return session_.pool().size();
}

std::string Pieces::Shape() const {
  const ModelConfig& c = model_.weights.config;
  const std::string experts =
      c.HasExperts()
          ? fmt::format(" {} of {} experts of {}", c.experts.used, c.experts.count, c.experts.inner)
          : "";
  return fmt::format("{}x{} {} heads {} of {}{}{}", c.hidden, c.intermediate, c.heads, c.kv_heads,
                     c.head_dim, c.qk_norm ? " normed" : "", experts);
}

double Pieces::InTasks(double each, Index rows) const {
  const auto threads = static_cast<Index>(session_.pool().size());
  return each * static_cast<double>(CeilDiv(CeilDiv(rows, kRowsPerTask), threads));
}

double Pieces::Layer(Index rows, Index length, const Grid* packed) {
  const ModelConfig& config = model_.weights.config;
  const auto weights = static_cast<double>(config.LayerWeightCount());
  const auto most = static_cast<Index>(
      std::clamp(kMostProducts / weights, 64.0, static_cast<double>(kBatchRows)));
  const Index timed_length = std::min(length, most);
  const Index windows = std::max<Index>(1, std::min(most, std::max(rows, length)) / timed_length);
  const Index timed = windows * timed_length;
  const std::string piece =
      fmt::format("layer {}, {} windows of {}, {}", Shape(), windows, timed_length,
                  packed != nullptr ? Label(*packed) : std::string("floats"));
  LayerWeights layer;
  std::optional<Forward> forward;
  Hidden hidden{{}, windows, timed_length};
  const double seconds = machine_.Seconds(piece, [&]() -> Machine::Work {
    layer = model_.weights.layers[Size(config.layers / 2)];
    if (packed != nullptr) layer = Packed(layer, *packed, session_.context());
    forward.emplace(model_.weights, session_.device(), timed_length);
    hidden.x = session_.device().Alloc(timed, config.hidden);
    session_.device().Upload(NormalRows(timed, config.hidden, 1).view(), hidden.x.view());
    return [&] {
      forward->Layer(config.layers / 2, layer, hidden);
      session_.device().Sync();
    };
  });
  return seconds / Threads() * static_cast<double>(rows) / static_cast<double>(timed);
}

double Pieces::Logits(Index rows) {
  const ModelConfig& config = model_.weights.config;
  const Index timed = std::clamp<Index>(
      static_cast<Index>(kMostProducts / 4 / static_cast<double>(config.vocab * config.hidden)), 16,
      512);
  const std::string piece = fmt::format("logits {}x{}, {}", config.vocab, config.hidden, timed);
  DeviceMatrix x, logits, reference;
  std::optional<Forward> forward;
  std::vector<double> kl(Size(timed)), nll(Size(timed));
  const std::vector<TokenId> targets(Size(timed));
  const double seconds = machine_.Seconds(piece, [&]() -> Machine::Work {
    Device& device = session_.device();
    forward.emplace(model_.weights, device, timed);
    x = device.Alloc(timed, config.hidden);
    device.Upload(NormalRows(timed, config.hidden, 2).view(), x.view());
    logits = device.Alloc(timed, config.vocab);
    reference = device.Alloc(timed, config.vocab);
    forward->Logits(x.view(), reference.view());
    return [&] {
      forward->Logits(x.view(), logits.view());
      session_.device().SoftmaxKl(reference.view(), logits.view(), kl);
      session_.device().LogSoftmaxNll(logits.view(), targets, nll);
      session_.device().Sync();
    };
  });
  return seconds / Threads() * static_cast<double>(rows) / static_cast<double>(timed);
}

double Pieces::Cross(Index rows, Index a_columns, Index b_columns) {
  constexpr Index kRows = 1024;
  const Index a_timed = std::min(a_columns, kMostColumns),
              b_timed = std::min(b_columns, kMostColumns);
  const std::string piece = fmt::format("cross products {}x{}", a_timed, b_timed);
  DeviceMatrix a, b;
  std::unique_ptr<PlacedSums<float>> sums;
  Device& device = session_.device();
  const double seconds = machine_.Seconds(piece, [&]() -> Machine::Work {
    a = device.Alloc(kRows, a_timed);
    b = device.Alloc(kRows, b_timed);
    device.Upload(NormalRows(kRows, a_timed, 3).view(), a.view());
    device.Upload(NormalRows(kRows, b_timed, 4).view(), b.view());
    sums = RequireCalibration(device).MakeCross(a_timed, b_timed);
    return [&] {
      RequireCalibration(device).CrossGramUpdate(a.view(), b.view(), *sums);
      device.Sync();
    };
  });
  return seconds / Threads() * static_cast<double>(rows) / kRows * Beyond(a_columns, a_timed, 1) *
         Beyond(b_columns, b_timed, 1);
}

double Pieces::Gram(Index rows, Index columns) {
  constexpr Index kRows = 1024;
  const Index timed = std::min(columns, kMostColumns);
  DeviceMatrix x;
  std::unique_ptr<PlacedSums<double>> sums;
  Device& device = session_.device();
  const double seconds = machine_.Seconds(fmt::format("gram {}", timed), [&]() -> Machine::Work {
    x = device.Alloc(kRows, timed);
    device.Upload(NormalRows(kRows, timed, 5).view(), x.view());
    sums = RequireCalibration(device).MakeGram(timed);
    return [&] {
      RequireCalibration(device).GramUpdate(x.view(), *sums);
      device.Sync();
    };
  });
  return seconds / Threads() * static_cast<double>(rows) / kRows * Beyond(columns, timed, 2);
}

double Pieces::Prepare(Index columns, const Grid& grid, const QuantOptions& options) {
  const Index timed = TimedColumns(columns, grid);
  Matrix<double> gram;
  const double seconds = machine_.Seconds(fmt::format("factor {}", timed), [&]() -> Machine::Work {
    gram = LikeAGram(timed, 1000);
    return [&] {
      const Matrix<float> whole = BothTriangles(std::as_const(gram).view());
      (void)FactorGram(whole.view(), grid, options, &session_.pool());
    };
  });
  return seconds * Beyond(columns, timed, 3);
}

double Pieces::Quantize(Site site, const Grid& grid, const QuantOptions& options, Index held_out) {
  const ModelConfig& config = model_.weights.config;
  const bool adds = site == Site::kO || site == Site::kDown;
  return QuantizeMatrix(config.Out(site), config.In(site), adds, grid, options, held_out);
}

double Pieces::QuantizeMatrix(Index rows, Index columns, bool adds, const Grid& grid,
                              const QuantOptions& options, Index held_out) {
  const Quantizer& quantizer = FindQuantizer(options.method);
  if (!quantizer.needs_calibration) return Round(rows, columns, grid, options.clip);
  const Index timed = TimedColumns(columns, grid), most = kRowsPerTask * session_.pool().size();
  const Index timed_rows = std::min(rows, most);
  const std::string piece = fmt::format("rounding {}x{}, {}, adds {}, held out {}", timed_rows,
                                        timed, Settings(grid, options), adds, held_out);
  Matrix<float> w;
  std::unique_ptr<UnitSolver> solver;
  const double seconds = machine_.Seconds(piece, [&]() -> Machine::Work {
    w = NormalRows(timed_rows, timed, 6);
    solver = quantizer.begin(LikeStatistics(timed, timed_rows, options, adds, held_out), options,
                             session_.context());
    const auto round = [&](Index count) {
      LinearReport report;
      (void)solver->Quantize(w.view().Rows(0, count), grid, 1, report);
    };
    round(1);  // factorises
    return [&, round] { round(timed_rows); };
  });
  const double each = seconds / static_cast<double>(CeilDiv(timed_rows, kRowsPerTask));
  return InTasks(each, rows) * Beyond(columns, timed, 2);
}

double Pieces::Round(Index rows, Index columns, const Grid& grid, Clip clip) {
  const Index timed = TimedColumns(columns, grid), timed_rows = 16 * session_.pool().size();
  const std::string piece =
      fmt::format("nearest {}x{}, {} {}", timed_rows, timed, Label(grid), Name(clip));
  const Matrix<float> w = NormalRows(timed_rows, timed, 7);
  const double seconds = machine_.Seconds(piece, [&]() -> Machine::Work {
    return [&] {
      LinearReport report;
      (void)QuantizeRtn(w.view(), {}, grid, clip, session_.context(), report);
    };
  });
  return seconds / Threads() * static_cast<double>(rows) / static_cast<double>(timed_rows) *
         Beyond(columns, timed, 1);
}

double Pieces::Spectra(const DiagnoseOptions& options) {
  constexpr Index kMostSide = 768;
  const ModelConfig& config = model_.weights.config;
  double sum = 0, longest = 0;
  for (const Unit unit : kAllUnits) {  // their factors: a task each
    const Index in = config.In(SitesOf(unit).front()), timed = std::min(in, kMostSide);
    Matrix<double> gram;
    const double seconds =
        machine_.Seconds(fmt::format("factor of inputs {}", timed), [&]() -> Machine::Work {
          gram = LikeAGram(timed, 1000);
          return [&] { (void)FactorInputs(gram.Clone(), 4096); };
        });
    sum += seconds * Beyond(in, timed, 3) / Threads();
  }
  double total = 0;
  for (const Site site : kAllSites) {
    if (config.Out(site) == 0) continue;
    const bool by_head = UnitOf(site) == Unit::kQkv && options.settings.heads == Heads::kPerHead;
    const Index rows = by_head ? config.head_dim : config.Out(site), in = config.In(site);
    const Index timed_rows = std::min(rows, kMostSide), timed_in = std::min(in, kMostSide);
    std::optional<InputFactor> factor;
    const double seconds = machine_.Seconds(
        fmt::format("spectrum {}x{}", timed_rows, timed_in), [&]() -> Machine::Work {
          factor = FactorInputs(LikeAGram(timed_in, 1000), 4096);
          return [&] {
            Rng rng(0, 8);
            Matrix<double> w = RandomProjection(timed_rows, timed_in, rng);
            (void)Spectrum(w.view(), *factor);
          };
        });
    const double each = seconds * Beyond(std::min(rows, in), std::min(timed_rows, timed_in), 2) *
                        Beyond(std::max(rows, in), std::max(timed_rows, timed_in), 1);
    longest = std::max(longest, each);
    total += each * static_cast<double>(config.Out(site) / rows) * (1 + options.twins);
  }
  return sum + std::max(longest, total / Threads());
}

double Pieces::WriteCodes(const Grid& grid) {
  const auto weights = model_.weights.config.LayerWeightCount();
  return Write(weights * grid.bits / 8, 1);
}

double Pieces::ReadCodes(const Grid& grid) {
  return Read(model_.weights.config.LayerWeightCount() * grid.bits / 8);
}

double Pieces::Write(std::int64_t bytes, Index files) {
  constexpr std::size_t kBytes = std::size_t{16} << 20, kSmall = std::size_t{64} << 10;
  const auto write = [&](const std::string& piece, std::size_t size) {
    return machine_.ClockSeconds(piece, [&] {
      const fs::path folder = machine_.file().parent_path();
      const fs::path file = folder / "machine-probe";
      try {
        fs::create_directories(folder);
        const std::vector<std::byte> block(size);
        AtomicFile probe(file);
        probe.Write(block);
        probe.Commit();
        fs::remove(file);
      } catch (const std::exception&) {  // read-only: the run itself will say so
      }
    });
  };
  const double small = write("write 64 KiB", kSmall);
  const double large = std::max(0.0, write("write 16 MiB", kBytes) - small);
  return static_cast<double>(files) * small +
         static_cast<double>(bytes) * large / static_cast<double>(kBytes);
}

double Pieces::Read(std::int64_t bytes) {
  // What a run reads it has just written, or hashed: from memory, at the speed of a copy.
  constexpr std::size_t kBytes = std::size_t{16} << 20;
  std::vector<std::byte> from, to;
  const double seconds = machine_.Seconds("copy 16 MiB", [&]() -> Machine::Work {
    from.resize(kBytes);
    to.resize(kBytes);
    return [&] { std::ranges::copy(from, to.begin()); };
  });
  return static_cast<double>(bytes) * seconds / static_cast<double>(kBytes);
}

}  // namespace lieq
