#include "lieq/pipeline/end_codes.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

std::string_view ModuleOf(End end) noexcept {
  return end == End::kHead ? kHeadModule : kEmbeddingModule;
}

std::shared_ptr<const QMatrix>& Of(End end, EndCodes& codes) noexcept {
  return end == End::kHead ? codes.head : codes.embedding;
}

}  // namespace

bool IsCalibrated(End end, const Grid& grid, const ModelConfig& config,
                  const QuantOptions& options) {
  if (grid.bits > 4 || !FindQuantizer(options.method).calibrates_ends) return false;
  return end == End::kHead || config.tied;
}

bool AnyCalibrated(const EndGrids& ends, const ModelConfig& config, const QuantOptions& options) {
  return std::ranges::any_of(kAllEnds, [&](End end) {
    return ends.At(end) && IsCalibrated(end, *ends.At(end), config, options);
  });
}

EndCodes WriteEnds(const std::filesystem::path& file, const ModelFolder& model,
                   const EndGrids& ends, const QuantOptions& options,
                   const EndStatistics* statistics, Session& session) {
  const ModelConfig& config = model.weights.config;
  const DType scale_type = ScaleType(model.dtype);
  EndCodes result;
  std::vector<TensorSpec> specs;
  Record reports = Record::object();
  for (const End end : kAllEnds) {
    if (!ends.At(end)) continue;
    const Grid& grid = *ends.At(end);
    const std::string module(ModuleOf(end));
    const AnyMatrix& matrix = end == End::kHead ? model.weights.head : model.weights.embedding;
    const bool calibrated = IsCalibrated(end, grid, config, options);
    LIEQ_ASSERT(!calibrated || statistics != nullptr);
    LinearReport report;
    Of(end, result) = std::make_shared<const QMatrix>(QuantizeEnd(
        matrix, grid, calibrated ? statistics : nullptr, options, session.context(), report));
    model.weights.Release(matrix);
    if (report.fell_back) {
      session.log().Warning(module +
                            ": what calibration tells about it could not be factorised with any "
                            "damping up to 1; rounded to nearest instead");
    }
    reports[module] = ReportToJson(report);
    result.reports.emplace_back(module, report);
    const auto more = EndSpecs(module, config, grid, scale_type);
    specs.insert(specs.end(), more.begin(), more.end());
  }
  TensorWriter writer(file, std::move(specs), {{"format", "pt"}, {"reports", reports.dump()}});
  for (const End end : kAllEnds) {
    if (ends.At(end)) WriteEnd(writer, ModuleOf(end), config, *Of(end, result), scale_type);
  }
  writer.Commit();
  return result;
}

EndCodes ReadEnds(const std::filesystem::path& file, const EndGrids& ends) {
  const TensorFile tensors = TensorFile::Open(file);
  const auto found = tensors.metadata().find("reports");
  if (found == tensors.metadata().end()) {
    throw Error({.what = "no reports in the metadata", .where = file.string()});
  }
  const Json reports = ParseJson(found->second, file.string());
  const JsonObject object(reports, file.string());
  EndCodes result;
  for (const End end : kAllEnds) {
    if (!ends.At(end)) continue;
    const std::string module(ModuleOf(end));
    Of(end, result) = std::make_shared<const QMatrix>(ReadPacked(tensors, module, *ends.At(end)));
    result.reports.emplace_back(module, ReportFromJson(object.Object(module)));
  }
  return result;
}

}  // namespace lieq
