#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/commands.h"
#include "lieq/container/finite.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/model_sizes.h"

namespace lieq {
namespace {

std::string GridText(const QMatrix& matrix) {
  const Grid& grid = matrix.grid();
  return fmt::format("{} bits, {}, {}", grid.bits,
                     grid.group_size == 0 ? "whole rows" : fmt::format("group {}", grid.group_size),
                     grid.k_quant ? KQuantOf(grid).name : Describe(grid.offset));
}

/// "4 bits, group 64, symmetric", or nothing for a float matrix.
std::string EndText(const AnyMatrix& matrix) {
  const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
  return packed != nullptr ? GridText(**packed) : "";
}

void PrintLayers(const ModelFolder& model) {
  fmt::print("\nlayers       qkv, o, gate and up, down\n");
  const auto grids = [&](std::size_t layer) {
    std::array<std::string, kUnits> text;
    for (const Unit unit : kAllUnits) {
      const Linear& linear = model.weights.layers[layer].At(SitesOf(unit).front());
      const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&linear.weight);
      text[static_cast<std::size_t>(unit)] = packed != nullptr ? GridText(**packed) : "float";
    }
    return std::ranges::all_of(text, [&](const auto& t) { return t == text[0]; })
               ? text[0]
               : fmt::format("{}", fmt::join(text, "; "));
  };
  const std::size_t layers = model.weights.layers.size();
  for (std::size_t first = 0; first < layers;) {
    std::size_t last = first;
    while (last + 1 < layers && grids(last + 1) == grids(first)) ++last;
    fmt::print("{:<11}  {}\n",
               last == first ? fmt::format("{}", first) : fmt::format("{}-{}", first, last),
               grids(first));
    first = last + 1;
  }
}

/// What training made of it, of a folder that says so.
void PrintTuned(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "lieq.json";
  if (!std::filesystem::is_regular_file(file)) return;
  const Json record = ReadJson(file);
  if (!record.contains("tuning")) return;
  const JsonObject tuning(record["tuning"], file.string() + ": tuning");
  fmt::print(
      "tuned          {}, {} steps, {} tokens; KL of windows held out {:.4f}, before {:.4f}\n",
      tuning.String("what"), tuning.Integer("steps"), tuning.Integer("tokens"),
      tuning.Number("held_out_kl"), tuning.Number("held_out_kl_before"));
}

}  // namespace

int RunInspect(const Arguments& arguments, CommandSession& session) {
  const ModelFolder model = OpenInput(arguments.run.model, session.log());
  const ModelConfig& config = model.weights.config;
  const std::int64_t finite = arguments.check_weights ? RequireFinite(model, session.pool()) : 0;
  const ModelSizes sizes = MeasureSizes(model);
  const auto weights = static_cast<double>(sizes.weights);
  if (arguments.json) {
    Record record{{"schema", 1},
                  {"kind", "inspection"},
                  {"model", arguments.run.model.string()},
                  {"architecture", config.architecture},
                  {"layers", config.layers},
                  {"hidden", config.hidden},
                  {"intermediate", config.intermediate},
                  {"heads", config.heads},
                  {"kv_heads", config.kv_heads},
                  {"head_dim", config.head_dim},
                  {"vocabulary", config.vocab},
                  {"tied_head", config.tied},
                  {"parameters", sizes.parameters},
                  {"linear_weights", sizes.weights},
                  {"quantized", model.quantized},
                  {"dtype", Name(model.dtype)},
                  {"code_bits_per_weight", sizes.code_bits / weights},
                  {"bits_per_weight", sizes.stored_bits / weights},
                  {"bytes", sizes.bytes},
                  {"layer_bits", sizes.layer_bits}};
    if (!model.notes.empty()) record["notes"] = model.notes;
    if (arguments.check_weights) record["finite_weights"] = finite;
    session.Answer(record);
    return 0;
  }
  fmt::print("architecture   {}\n", config.architecture);
  fmt::print("parameters     {:.1f} M, {:.1f} M of them in the linears of {} layers\n",
             static_cast<double>(sizes.parameters) / 1e6, weights / 1e6, config.layers);
  fmt::print("widths         hidden {}, MLP {}, {} heads of {} ({} for keys and values)\n",
             config.hidden, config.intermediate, config.heads, config.head_dim, config.kv_heads);
  fmt::print("vocabulary     {}, {}\n", config.vocab,
             config.tied ? "head tied to the embedding" : "head of its own");
  fmt::print("weights        {} bytes ({}), float parts {}\n", sizes.bytes,
             FormatBytes(static_cast<double>(sizes.bytes)), Name(model.dtype));
  fmt::print("linears        {:.4f} code bits a weight, {:.4f} with scales and zero-points\n",
             sizes.code_bits / weights, sizes.stored_bits / weights);
  if (model.ends.embedding) {
    fmt::print("embedding      {}\n", EndText(model.weights.embedding));
  }
  if (model.ends.head) fmt::print("head           {}\n", EndText(model.weights.head));
  PrintTuned(model.path);
  if (arguments.check_weights) fmt::print("checked        all {} weights are finite\n", finite);
  if (model.quantized) PrintLayers(model);
  return 0;
}

}  // namespace lieq
