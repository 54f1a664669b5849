#include "lieq/cli/quantize_settings.h"

#include <fmt/format.h>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/base/shell.h"
#include "lieq/cli/calibration_text.h"
#include "lieq/cli/plan_source.h"
#include "lieq/cli/planning.h"
#include "lieq/cli/transforming.h"
#include "lieq/cli/version.h"
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

void AddAverage(const Arguments& arguments, Record& record) {
  const Budget budget = AverageOf(arguments);
  record["bits"] = budget.bits;
  if (budget.rounding == Rounding::kPaper) record["rounding"] = "paper";
}

Record QuantizeSettings(const Arguments& a, const std::string& model_hash,
                        const EncodedText* calibration, const Windows& windows) {
  Record record{{"version", kVersion},
                {"model", model_hash},
                {"group_size", a.group_size == 0 ? Record("row") : Record(a.group_size)},
                {"symmetric", a.offset == Offset::kSymmetric},
                {"seed", a.seed}};
  AddOptions(a.quant, record);
  if (a.k_quant) {  // its grids are known by their widths; group_size is of embedding and head
    record.erase("symmetric");
    record["grid"] = "k-quant";
  } else {
    AddOffset(a.offset, record);
  }
  const TransformList transforms = TransformsOf(a.transforms, a.quant.method);
  if (!transforms.empty()) record["transform"] = NamesOf(transforms);
  if (!a.plan.empty()) {
    record["plan"] = HashPlan(a.plan);
  } else if (a.uniform) {
    record["uniform"] = *a.uniform;
  } else {
    if (a.bpw) {
      record["bpw"] = *a.bpw;
    } else if (a.size) {
      record["size"] = *a.size;
    } else if (a.high_layers) {
      record["high_layers"] = *a.high_layers;
    } else {
      AddAverage(a, record);
    }
    if (a.allocation == "optimal") {
      record["allocation"] = a.allocation;
      record["granularity"] = a.by_group ? "group" : "layer";
      if (!a.sensitivities.empty()) record["sensitivities"] = HashFile(a.sensitivities);
      if (!a.candidates.empty()) {
        for (const Candidate& candidate : a.candidates) {
          record["candidates"].push_back(GridToJson(candidate.Resolved(a.offset)));
        }
      }
      if (!a.text.empty()) record["text"] = HashFile(a.text);
      if (!a.text.empty() && !a.text_fields.empty()) record["text_fields"] = a.text_fields;
      record["damage_windows"] = a.damage_windows;
      record["damage_context"] = a.damage_context;
      record["measure_all"] = a.measure_all;
      record["refine"] = a.refine;
    } else {
      record["widths"] = {a.low, a.high};
      record["ranking"] = a.ranking;
    }
  }
  if (a.target != nullptr) record["for"] = a.target->name;
  if (a.assemble) record["assembled"] = true;
  if (a.embedding_bits) record["embedding_bits"] = *a.embedding_bits;
  if (a.head_bits) record["head_bits"] = *a.head_bits;
  if (a.line_ends != LineEnds::kLf) record["line_ends"] = Name(a.line_ends);
  if (calibration != nullptr) {
    record["calibration"] = calibration->hash;
    if (CalibratesOnItself(a)) record["calibration_source"] = "self";
    record["samples"] = windows.count;
    record["context"] = windows.length;
  }
  return record;
}

std::string CanonicalCommand(const Arguments& a) {
  const auto name = [](const std::filesystem::path& path) {
    const auto last = path.filename().empty() ? path.parent_path().filename() : path.filename();
    return ShellQuoted(last.string());
  };
  std::string command = "lieq quantize " + name(a.model) + " -o OUT";
  if (!a.plan.empty()) {
    command += " --plan " + name(a.plan);
  } else if (a.uniform) {
    command += fmt::format(" --uniform {}", *a.uniform);
  } else {
    command += a.bpw           ? fmt::format(" --bpw {:g}", *a.bpw)
               : a.size        ? fmt::format(" --size {}", *a.size)
               : a.high_layers ? fmt::format(" --high-layers {}", *a.high_layers)
                               : fmt::format(" --bits {:g}", a.bits.value_or(kDefaultBits));
    if (a.rounding == Rounding::kPaper) command += " --rounding paper";
    if (a.allocation == "optimal") {
      command +=
          fmt::format(" --allocation optimal --granularity {}", a.by_group ? "group" : "layer");
      if (!a.sensitivities.empty()) command += " --sensitivities " + name(a.sensitivities);
      for (std::size_t i = 0; i < a.candidates.size(); ++i) {
        command += (i == 0 ? " --candidates " : ",") + Label(a.candidates[i].Resolved(a.offset));
      }
      if (!a.text.empty()) command += " --text " + name(a.text);
      command += fmt::format(" --damage-windows {} --damage-context {}", a.damage_windows,
                             a.damage_context);
      if (a.refine > 0) command += fmt::format(" --refine {}", a.refine);
    } else {
      command += fmt::format(" --widths {},{} --ranking {}", a.low, a.high, a.ranking);
    }
  }
  command += fmt::format(" --method {} --group-size {} {} --act-order {} --damping {} --clip {}",
                         a.quant.method, a.group_size == 0 ? "row" : std::to_string(a.group_size),
                         a.k_quant ? "--grid k-quant" : fmt::format("--offset {}", Name(a.offset)),
                         Name(a.quant.act_order), a.quant.damping, Name(a.quant.clip));
  const QuantOptions options = WithDefaults(a.quant);
  command += fmt::format(" --drift {} --residual {} --rounds {}", Text(*options.drift),
                         Text(*options.residual), *options.rounds);
  if (!*options.search) command += " --no-search";
  if (a.target != nullptr) command += " --for " + std::string(a.target->name);
  for (std::size_t i = 0; i < a.transforms.size(); ++i) {
    command += (i == 0 ? " --transform " : ",") + a.transforms[i];
  }
  if (a.embedding_bits) command += fmt::format(" --embedding-bits {}", *a.embedding_bits);
  if (a.head_bits) command += fmt::format(" --head-bits {}", *a.head_bits);
  if (a.assemble) command += " --assemble --codes " + name(a.codes);
  for (std::size_t i = 0; i < a.calibration.size(); ++i) {
    command += (i == 0 ? " --calibration " : " ") + name(a.calibration[i]);
  }
  for (std::size_t i = 0; i < a.text_fields.size(); ++i) {
    command += (i == 0 ? " --text-field " : ",") + a.text_fields[i];
  }
  if (a.line_ends != LineEnds::kLf) command += fmt::format(" --line-ends {}", Name(a.line_ends));
  command +=
      fmt::format(" --samples {} --context {} --seed {}", a.samples.value_or(kDefaultSamples),
                  a.context.value_or(kDefaultContext), a.seed);
  return command;
}

EndGrids EndsOf(const Arguments& arguments, const ModelConfig& config) {
  const int embedding = arguments.embedding_bits.value_or(16);
  const int head = arguments.head_bits.value_or(config.tied ? embedding : 16);
  if (config.tied && head != embedding) {
    throw UsageError(
        "--embedding-bits and --head-bits: the model ties both, so they are one matrix");
  }
  const auto grid = [&](int bits) -> std::optional<Grid> {
    if (bits == 16) return std::nullopt;
    return Grid{.bits = bits, .group_size = arguments.group_size};
  };
  return {.embedding = grid(embedding), .head = config.tied ? std::nullopt : grid(head)};
}

Grid GridOfBits(const Arguments& arguments, int bits) {
  if (!arguments.k_quant) {
    return {.bits = bits, .group_size = arguments.group_size, .offset = arguments.offset};
  }
  const KQuant* row = KQuantOfBits(bits);
  if (row != nullptr) return row->grid;
  throw Error({.what = "no K-quant has this width",
               .where = "--grid",
               .expected = "2, 3 or 4 bits",
               .found = fmt::format("{} bits", bits)});
}

}  // namespace lieq
