// What the pipeline is asked for: one request for each thing it does, with the defaults that the
// program has. The program fills them from a command line, a user of the library by hand.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/container/targets.h"
#include "lieq/device/device.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/sensitivities.h"
#include "lieq/quantize/options.h"
#include "lieq/text/text_file.h"

namespace lieq {

/// Parts of a request that contradict one another. Messages name them by the program's options.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How a session computes.
struct MachineRequest {
  int threads = 0;  // 0: all processors
  std::string device = "cpu";
  std::string kernels;        // of the processor; empty: `usual_kernels`
  std::string usual_kernels;  // where the device is the processor; empty: the best that it has
  Arithmetic arithmetic = Arithmetic::kFloat32;
  bool probes_arithmetic = false;                 // whichever is faster, in place of `arithmetic`
  Activations activations = Activations::kInt8;   // of packed kernels
  CacheType keys_and_values = CacheType::kFloat;  // of tokens that went before
  std::int64_t device_memory = 0;                 // bytes of a GPU's at most; 0: what there is
  std::filesystem::path cache;                    // of what can be made again; empty: CacheFolder()
};

/// The texts whose activations are used.
struct CalibrationRequest {
  std::vector<std::filesystem::path> files;  // empty: the bundled text; "self": the model's own
  std::vector<double> weights;               // one for each file, above 0; empty: one after another
  std::optional<Index> samples;              // windows; none: up to kDefaultSamples
  bool all = false;                          // none: all of them that files have
  std::optional<Index> context;              // tokens in each; none: kDefaultContext
  bool single_chats = false;                 // a window holds one chat, and no more of it
  bool trains = false;  // what the text is worth is said where it is trained on
};

/// What may be spent. At most one of bits, uniform, bpw, size and high_layers; none: as
/// TakeDefaultBudget says.
struct BudgetRequest {
  std::optional<double> bits;        // average of code bits
  std::optional<Rounding> rounding;  // of `bits`; none: down
  int low = 2, high = 4;             // the widths that a ranking mixes
  std::optional<int> uniform;        // one width everywhere
  std::optional<double> bpw;         // ceiling on all-in bits a weight
  std::optional<std::int64_t> size;  // ceiling on bytes of the weight files
  std::optional<Index> high_layers;  // of the top-m rule
  std::string allocation;            // "top-m", "optimal" or "uniform"; empty: as the budget
  bool by_group = true;              // an optimal plan gives each unit a grid, not each layer
};

/// By what layers are ranked.
struct RankingRequest {
  std::string name = "compactness";                          // a row of Rankings()
  std::array<double, 3> weights{1.0 / 3, 1.0 / 3, 1.0 / 3};  // of `combined`
  std::filesystem::path scores;                              // of `file`
  std::filesystem::path diagnostics;                         // measured before; empty: measure
};

/// A grid of --candidates; where it says no offset it has the one of --offset.
struct Candidate {
  Grid grid;
  bool says_offset = false;  // as K-quants do

  [[nodiscard]] Grid Resolved(Offset otherwise) const noexcept {
    Grid resolved = grid;
    if (!says_offset) resolved.offset = otherwise;
    return resolved;
  }
  friend bool operator==(const Candidate&, const Candidate&) = default;
};

/// What modules whose names match get, whatever else decides: a rule of --set or --keep.
struct ModuleRule {
  std::string pattern;                           // a regular expression, found anywhere in a name
  std::optional<Grid> grid;                      // none: 16-bit floats, as they are
  bool says_offset = false, says_group = false;  // else those of the request

  /// "--set 'down_proj=w4g64'", for messages.
  [[nodiscard]] std::string where() const;
  friend bool operator==(const ModuleRule&, const ModuleRule&) = default;
};

/// Which grids there are to choose from, where a plan does not say.
struct GridRequest {
  Index group_size = 64;
  Offset offset = Offset::kSymmetric;
  // Asked for, not left at the default: goes before a plan's group size for embedding and head, and
  // is warned of where the plan's layers have others.
  bool says_group_size = false;
  bool says_offset = false;                      // asked for: candidates for `target` have it too
  bool k_quant = false;                          // K-quant grids, by the width, in place of the two
  std::vector<Candidate> candidates;             // of an optimal plan; empty: DefaultCandidates
  const ContainerTarget* target = nullptr;       // grids that it holds
  std::vector<ModuleRule> rules;                 // later ones go before earlier ones
  std::optional<int> embedding_bits, head_bits;  // 16, 8, 4 or 2; these go before:
  std::optional<EndGrids> planned_ends;          // of the plan that is read
};

/// How the damage of grids is measured.
struct DamageRequest {
  std::filesystem::path text;           // empty: the end of the calibration text
  Index windows = 8, context = 512;     // of that text
  std::string method;                   // that rounds the candidates; empty: CandidateOptions
  std::filesystem::path codes;          // a CodeStore; empty: CodesFolder
  std::filesystem::path sensitivities;  // measured before; empty: measure
  DamageMode mode = DamageMode::kSolo;
  std::filesystem::path base;  // plan of the mix for damage in context
  bool measure_all = false;    // every candidate, none predicted
  Index refine = 0;            // evaluations of a local search on the true divergence
  Index check = 4;             // mixes that the prediction is checked on
};

/// What training moves: scales, with norms and biases, or codes beside them.
enum class TuneWhat : std::uint8_t { kScales, kCodes };
inline constexpr std::array<std::string_view, 2> kTuneWhatNames{"scales", "codes"};
[[nodiscard]] constexpr std::string_view Name(TuneWhat what) noexcept {
  return kTuneWhatNames[static_cast<std::size_t>(what)];
}

/// Training as the last step of a quantization.
struct TuneStep {
  TuneWhat what = TuneWhat::kScales;
  std::optional<std::int64_t> tokens;  // these two as of TuneRequest
  std::optional<double> minutes;
};

/// A model to be planned for, measured or quantized: each reads the parts that it needs.
struct QuantizeRequest {
  std::filesystem::path model, output;
  CalibrationRequest calibration;
  TextOptions reading;         // of all texts
  std::filesystem::path plan;  // a plan that is there; else one is made by:
  BudgetRequest budget;
  RankingRequest ranking;
  GridRequest grids;
  DamageRequest damage;

  QuantOptions quant;
  std::vector<std::string> transforms;  // rows of Transforms()
  std::optional<TuneStep> tune;
  bool assemble = false;   // from the codes of `damage`: nothing is quantized in sequence
  std::uint64_t seed = 0;  // of everything random

  bool force = false;      // replaces what this program wrote at `output`
  bool dry_run = false;    // writes nothing
  bool estimates = false;  // times the machine first, and declares the stages to the progress sink
  std::string command;     // how the user would ask again, for messages and run.json
};

}  // namespace lieq
