#include "lieq/cli/quantize_settings.h"

#include <fmt/format.h>

#include "lieq/base/hash.h"
#include "lieq/cli/planning.h"
#include "lieq/cli/version.h"

namespace lieq {

Record QuantizeSettings(const Arguments& a, const std::string& model_hash,
                        const EncodedText* calibration, const Windows& windows) {
  Record record{{"version", kVersion},
                {"model", model_hash},
                {"method", a.quant.method},
                {"group_size", a.group_size == 0 ? Record("row") : Record(a.group_size)},
                {"symmetric", a.symmetric},
                {"act_order", Name(a.quant.act_order)},
                {"damping", a.quant.damping},
                {"clip", Name(a.quant.clip)},
                {"seed", a.seed}};
  if (!a.plan.empty()) {
    record["plan"] = HashFile(a.plan);
  } else if (a.uniform) {
    record["uniform"] = *a.uniform;
  } else {
    record["bits"] = a.bits.value_or(kDefaultBits);
    record["widths"] = {a.low, a.high};
    record["ranking"] = a.ranking;
  }
  if (calibration != nullptr) {
    record["calibration"] = calibration->hash;
    record["samples"] = windows.count;
    record["context"] = windows.length;
  }
  return record;
}

std::string CanonicalCommand(const Arguments& a) {
  const auto name = [](const std::filesystem::path& path) {
    const auto last = path.filename().empty() ? path.parent_path().filename() : path.filename();
    return last.string();
  };
  std::string command = "lieq quantize " + name(a.model) + " -o OUT";
  if (!a.plan.empty()) {
    command += " --plan " + name(a.plan);
  } else if (a.uniform) {
    command += fmt::format(" --uniform {}", *a.uniform);
  } else {
    command += fmt::format(" --bits {:g} --widths {},{} --ranking {}",
                           a.bits.value_or(kDefaultBits), a.low, a.high, a.ranking);
  }
  command += fmt::format(" --method {} --group-size {} --{} --act-order {} --damping {} --clip {}",
                         a.quant.method, a.group_size == 0 ? "row" : std::to_string(a.group_size),
                         a.symmetric ? "symmetric" : "asymmetric", Name(a.quant.act_order),
                         a.quant.damping, Name(a.quant.clip));
  for (std::size_t i = 0; i < a.calibration.size(); ++i) {
    command += (i == 0 ? " --calibration " : " ") + name(a.calibration[i]);
  }
  command +=
      fmt::format(" --samples {} --context {} --seed {}", a.samples.value_or(kDefaultSamples),
                  a.context.value_or(kDefaultContext), a.seed);
  return command;
}

std::array<Grid, kSites> LayerGridsOf(const Arguments& arguments, const Plan& plan, Index layer) {
  std::array<Grid, kSites> grids;
  for (const Site site : kAllSites) {
    grids[static_cast<std::size_t>(site)] = {.bits = plan.BitsOf(layer, UnitOf(site)),
                                             .group_size = arguments.group_size,
                                             .symmetric = arguments.symmetric};
  }
  return grids;
}

}  // namespace lieq
