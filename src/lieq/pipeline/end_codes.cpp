#include "lieq/pipeline/end_codes.h"

#include "lieq/container/compressed_tensors.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {

EndReports WriteEnds(const std::filesystem::path& file, const ModelFolder& model,
                     const EndGrids& ends, const QuantOptions& options, Session& session) {
  const ModelConfig& config = model.weights.config;
  const DType scale_type = ScaleType(model.dtype);
  std::vector<std::pair<std::string, QMatrix>> packed;
  EndReports reports;
  const auto add = [&](std::string_view module, const AnyMatrix& matrix, const Grid& grid) {
    Matrix<float> w(Rows(matrix), Cols(matrix));
    WidenRows(matrix, 0, w.view());
    LinearReport report;
    const bool wide = HasWideScales(model.weights, options);
    packed.emplace_back(
        module,
        QuantizeInRange(w.view(), grid, wide, report, [&](View<const float, 2> multiple, double) {
          return QuantizeRtn(multiple, {}, grid, options.clip, session.context(), report);
        }));
    reports.emplace_back(module, report);
    model.weights.Release(matrix);
  };
  if (ends.embedding) add(kEmbeddingModule, model.weights.embedding, *ends.embedding);
  if (ends.head) add(kHeadModule, model.weights.head, *ends.head);
  std::vector<TensorSpec> specs;
  for (const auto& [module, matrix] : packed) {
    const auto more = EndSpecs(module, config, matrix.grid(), scale_type);
    specs.insert(specs.end(), more.begin(), more.end());
  }
  TensorWriter writer(file, std::move(specs), {{"format", "pt"}});
  for (const auto& [module, matrix] : packed) {
    WriteEnd(writer, module, config, matrix, scale_type);
  }
  writer.Commit();
  return reports;
}

}  // namespace lieq
