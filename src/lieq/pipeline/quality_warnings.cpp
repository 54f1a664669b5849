#include "lieq/pipeline/quality_warnings.h"

#include <fmt/format.h>

namespace lieq {
namespace {

constexpr double kNothingLeft = 0.9;  // relative error: a matrix of zeros has 1
constexpr std::size_t kNamed = 10;

void Judge(const std::string& module, const LinearReport& report, std::vector<std::string>& found) {
  const double relative = report.signal > 0 ? report.error / report.signal : 0;
  if (report.coarse_scales > 0) {
    found.push_back(fmt::format(
        "{}: {:.0f} % of its weight lies in groups whose scales F16 holds with few bits or not at "
        "all, so that they were clamped or rounded (relative error {:.3f}); its weights are "
        "unusually small or large: scale them and the norm before them, or quantize a BF16 model "
        "without --for gguf or gptq and without K-quants",
        module, 100 * report.coarse_scales, relative));
  } else if (relative >= kNothingLeft) {
    found.push_back(
        fmt::format("{}: relative error {:.3f}, so that little is left of it; give it more bits",
                    module, relative));
  }
}

}  // namespace

std::vector<std::string> QualityWarnings(const std::vector<LayerReports>& layers,
                                         const EndReports& ends, const ModelConfig& config) {
  std::vector<std::string> found;
  for (const auto& [module, report] : ends) Judge(module, report, found);
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    for (const Site site : config.Sites(static_cast<Index>(layer))) {
      Judge(ModuleName(config, static_cast<Index>(layer), site),
            layers[layer][static_cast<std::size_t>(site)], found);
    }
  }
  if (found.size() <= kNamed) return found;
  const std::size_t more = found.size() - kNamed;
  found.resize(kNamed);
  found.push_back(
      fmt::format("{} more matrices like these: see relative_error and coarse_scales "
                  "in lieq.json",
                  more));
  return found;
}

}  // namespace lieq
