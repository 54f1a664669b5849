#include "lieq/pipeline/quantize_settings.h"

#include <fmt/format.h>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/base/shell.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/pipeline/version.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

/// One number where the widths do not differ.
Record ToRecord(const Strength& strength) {
  if (strength.narrow == strength.wide) return strength.narrow;
  return {{"2_bits", strength.narrow}, {"wider", strength.wide}};
}

/// As the option takes it.
std::string Text(const Strength& strength) {
  return strength.narrow == strength.wide ? fmt::format("{}", strength.narrow)
                                          : fmt::format("{},{}", strength.narrow, strength.wide);
}

}  // namespace

void AddOptions(const QuantOptions& given, Record& record) {
  const QuantOptions options = WithDefaults(given);
  record["method"] = options.method;
  record["act_order"] = Name(options.act_order);
  record["damping"] = options.damping;
  record["clip"] = Name(options.clip);
  if (options.corrects()) {
    record["drift"] = ToRecord(*options.drift);
    record["residual"] = ToRecord(*options.residual);
  }
  if (*options.rounds == 0) return;
  record["rounds"] = *options.rounds;
  record["search"] = *options.search;
}

void AddAverage(const QuantizeRequest& request, Record& record) {
  const Budget budget = AverageOf(request);
  record["bits"] = budget.bits;
  if (budget.rounding == Rounding::kPaper) record["rounding"] = "paper";
}

Record QuantizeSettings(const QuantizeRequest& a, const std::string& model_hash,
                        const EncodedText* calibration, const Windows& windows) {
  Record record{
      {"version", kVersion},
      {"model", model_hash},
      {"group_size", a.grids.group_size == 0 ? Record("row") : Record(a.grids.group_size)},
      {"symmetric", a.grids.offset == Offset::kSymmetric},
      {"seed", a.seed}};
  AddOptions(a.quant, record);
  if (a.grids
          .k_quant) {  // its grids are known by their widths; group_size is of embedding and head
    record.erase("symmetric");
    record["grid"] = "k-quant";
  } else {
    AddOffset(a.grids.offset, record);
  }
  const TransformList transforms = TransformsOf(a.transforms, a.quant.method);
  if (!transforms.empty()) record["transform"] = NamesOf(transforms);
  if (!a.plan.empty()) {
    record["plan"] = HashPlan(a.plan);
  } else if (a.budget.uniform) {
    record["uniform"] = *a.budget.uniform;
  } else {
    if (a.budget.bpw) {
      record["bpw"] = *a.budget.bpw;
    } else if (a.budget.size) {
      record["size"] = *a.budget.size;
    } else if (a.budget.high_layers) {
      record["high_layers"] = *a.budget.high_layers;
    } else {
      AddAverage(a, record);
    }
    if (a.budget.allocation == "optimal") {
      record["allocation"] = a.budget.allocation;
      record["granularity"] = a.budget.by_group ? "group" : "layer";
      if (!a.damage.sensitivities.empty())
        record["sensitivities"] = HashFile(a.damage.sensitivities);
      if (!a.grids.candidates.empty()) {
        for (const Candidate& candidate : a.grids.candidates) {
          record["candidates"].push_back(GridToJson(candidate.Resolved(a.grids.offset)));
        }
      }
      if (!a.damage.text.empty()) record["text"] = HashFile(a.damage.text);
      if (!a.damage.text.empty() && !a.reading.fields.empty())
        record["text_fields"] = a.reading.fields;
      if (!a.damage.text.empty() && !a.reading.turns.empty())
        record["chat_fields"] = a.reading.turns;
      record["damage_windows"] = a.damage.windows;
      record["damage_context"] = a.damage.context;
      record["measure_all"] = a.damage.measure_all;
      record["refine"] = a.damage.refine;
    } else {
      record["widths"] = {a.budget.low, a.budget.high};
      record["ranking"] = a.ranking.name;
    }
  }
  if (a.grids.target != nullptr) record["for"] = a.grids.target->name;
  if (a.assemble) record["assembled"] = true;
  if (a.grids.embedding_bits) record["embedding_bits"] = *a.grids.embedding_bits;
  if (a.grids.head_bits) record["head_bits"] = *a.grids.head_bits;
  if (a.reading.line_ends != LineEnds::kLf) record["line_ends"] = Name(a.reading.line_ends);
  if (calibration != nullptr) {
    record["calibration"] = calibration->hash;
    if (CalibratesOnItself(a)) record["calibration_source"] = "self";
    record["samples"] = windows.count;
    record["context"] = windows.length;
  }
  return record;
}

std::string CanonicalCommand(const QuantizeRequest& a) {
  const auto name = [](const std::filesystem::path& path) {
    const auto last = path.filename().empty() ? path.parent_path().filename() : path.filename();
    return ShellQuoted(last.string());
  };
  std::string command = "lieq quantize " + name(a.model) + " -o OUT";
  if (!a.plan.empty()) {
    command += " --plan " + name(a.plan);
  } else if (a.budget.uniform) {
    command += fmt::format(" --uniform {}", *a.budget.uniform);
  } else {
    command += a.budget.bpw    ? fmt::format(" --bpw {:g}", *a.budget.bpw)
               : a.budget.size ? fmt::format(" --size {}", *a.budget.size)
               : a.budget.high_layers
                   ? fmt::format(" --high-layers {}", *a.budget.high_layers)
                   : fmt::format(" --bits {:g}", a.budget.bits.value_or(kDefaultBits));
    if (a.budget.rounding == Rounding::kPaper) command += " --rounding paper";
    if (a.budget.allocation == "optimal") {
      command += fmt::format(" --allocation optimal --granularity {}",
                             a.budget.by_group ? "group" : "layer");
      if (!a.damage.sensitivities.empty())
        command += " --sensitivities " + name(a.damage.sensitivities);
      for (std::size_t i = 0; i < a.grids.candidates.size(); ++i) {
        command += (i == 0 ? " --candidates " : ",") +
                   Label(a.grids.candidates[i].Resolved(a.grids.offset));
      }
      if (!a.damage.text.empty()) command += " --text " + name(a.damage.text);
      command += fmt::format(" --damage-windows {} --damage-context {}", a.damage.windows,
                             a.damage.context);
      if (a.damage.refine > 0) command += fmt::format(" --refine {}", a.damage.refine);
    } else {
      command +=
          fmt::format(" --widths {},{} --ranking {}", a.budget.low, a.budget.high, a.ranking.name);
    }
  }
  command += fmt::format(
      " --method {} --group-size {} {} --act-order {} --damping {} --clip {}", a.quant.method,
      a.grids.group_size == 0 ? "row" : std::to_string(a.grids.group_size),
      a.grids.k_quant ? "--grid k-quant" : fmt::format("--offset {}", Name(a.grids.offset)),
      Name(a.quant.act_order), a.quant.damping, Name(a.quant.clip));
  const QuantOptions options = WithDefaults(a.quant);
  command += fmt::format(" --drift {} --residual {} --rounds {}", Text(*options.drift),
                         Text(*options.residual), *options.rounds);
  if (!*options.search) command += " --no-search";
  if (a.grids.target != nullptr) command += " --for " + std::string(a.grids.target->name);
  for (std::size_t i = 0; i < a.transforms.size(); ++i) {
    command += (i == 0 ? " --transform " : ",") + a.transforms[i];
  }
  if (a.grids.embedding_bits)
    command += fmt::format(" --embedding-bits {}", *a.grids.embedding_bits);
  if (a.grids.head_bits) command += fmt::format(" --head-bits {}", *a.grids.head_bits);
  if (a.assemble) command += " --assemble --codes " + name(a.damage.codes);
  for (std::size_t i = 0; i < a.calibration.files.size(); ++i) {
    command += (i == 0 ? " --calibration " : " ") + name(a.calibration.files[i]);
  }
  for (std::size_t i = 0; i < a.reading.fields.size(); ++i) {
    command += (i == 0 ? " --text-field " : ",") + a.reading.fields[i];
  }
  for (std::size_t i = 0; i < a.reading.turns.size(); ++i) {
    const auto& [role, field] = a.reading.turns[i];
    command += (i == 0 ? " --chat-fields " : ",") + role + "=" + field;
  }
  if (a.reading.line_ends != LineEnds::kLf)
    command += fmt::format(" --line-ends {}", Name(a.reading.line_ends));
  command += fmt::format(" --samples {} --context {} --seed {}",
                         a.calibration.samples.value_or(kDefaultSamples),
                         a.calibration.context.value_or(kDefaultContext), a.seed);
  return command;
}

EndGrids EndsOf(const QuantizeRequest& request, const ModelConfig& config) {
  const int embedding = request.grids.embedding_bits.value_or(16);
  const int head = request.grids.head_bits.value_or(config.tied ? embedding : 16);
  if (config.tied && head != embedding) {
    throw UsageError(
        "--embedding-bits and --head-bits: the model ties both, so they are one matrix");
  }
  const auto grid = [&](int bits) -> std::optional<Grid> {
    if (bits == 16) return std::nullopt;
    return Grid{.bits = bits, .group_size = request.grids.group_size};
  };
  return {.embedding = grid(embedding), .head = config.tied ? std::nullopt : grid(head)};
}

Grid GridOfBits(const QuantizeRequest& request, int bits) {
  if (!request.grids.k_quant) {
    return {.bits = bits, .group_size = request.grids.group_size, .offset = request.grids.offset};
  }
  const KQuant* row = KQuantOfBits(bits);
  if (row != nullptr) return row->grid;
  throw Error({.what = "no K-quant has this width",
               .where = "--grid",
               .expected = "2, 3 or 4 bits",
               .found = fmt::format("{} bits", bits)});
}

}  // namespace lieq
