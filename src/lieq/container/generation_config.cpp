#include "lieq/container/generation_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/io/json.h"

namespace lieq {
namespace {

/// A number of the file between two others; null and missing ones are left as they are.
void Take(const Record& config, const std::string& where, const char* key, double least,
          double most, double& value) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return;
  const double given = found->is_number() ? found->get<double>() : least - 1;
  if (!(given >= least && given <= most)) {
    throw Error({.what = "not a value for drawing tokens",
                 .where = where + ": /" + key,
                 .expected = fmt::format("a number, {:g} to {:g}", least, most),
                 .found = found->is_number() ? found->dump() : found->type_name(),
                 .hint = "mend the file, or give the option that takes its place"});
  }
  value = given;
}

}  // namespace

std::optional<GenerationConfig> GenerationConfigOf(const ModelFolder& model) {
  if (!model.generation_config.empty()) {
    const std::string where = model.path.string() + ": generation_config.json";
    return GenerationConfig{ParseRecord(model.generation_config, where), where};
  }
  // Beside a file may lie that of another model.
  const std::filesystem::path file = model.path / "generation_config.json";
  if (!std::filesystem::is_directory(model.path) || !std::filesystem::exists(file)) {
    return std::nullopt;
  }
  return GenerationConfig{ReadRecord(file), file.string()};
}

std::optional<SamplingOptions> SamplingOf(const ModelFolder& model) {
  const std::optional<GenerationConfig> file = GenerationConfigOf(model);
  if (!file || !file->json.is_object()) return std::nullopt;
  const Record& config = file->json;
  constexpr const char* kKeys[] = {"do_sample", "temperature", "top_k",
                                   "top_p",     "min_p",       "repetition_penalty"};
  if (std::ranges::none_of(kKeys, [&](const char* key) { return config.contains(key); })) {
    return std::nullopt;
  }
  const std::string& where = file->where;
  SamplingOptions options{.temperature = 1};
  double top_k = 0;
  Take(config, where, "temperature", 0, 100, options.temperature);
  Take(config, where, "top_k", 0, 1e9, top_k);
  Take(config, where, "top_p", 1e-9, 1, options.top_p);
  Take(config, where, "min_p", 0, 1, options.min_p);
  Take(config, where, "repetition_penalty", 1e-3, 1e3, options.repetition_penalty);
  options.top_k = static_cast<Index>(top_k);
  if (config.value("do_sample", Record(true)) == Record(false)) options.temperature = 0;
  return options;
}

}  // namespace lieq
