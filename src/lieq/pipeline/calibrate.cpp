#include "lieq/pipeline/calibrate.h"

#include "lieq/base/error.h"
#include "lieq/container/imatrix.h"
#include "lieq/pipeline/source.h"

namespace lieq {

Calibration Calibrate(const QuantizeRequest& request, Session& session) {
  Source source(request, session);
  if (source.model().weights.config.HasExperts()) {
    throw Error({.what = "importance matrices of mixtures of experts are not written",
                 .where = source.model().path.string(),
                 .expected = "a model without experts",
                 .found = source.model().weights.config.architecture});
  }
  const Windows& windows = source.windows();
  return {.importance = MeasureImportance(source.model().weights, session.device(), windows.view(),
                                          session.context()),
          .config = source.config(),
          .text = source.calibration(),
          .windows = windows.count,
          .length = windows.length};
}

void WriteCalibration(const Calibration& calibration, const std::filesystem::path& file) {
  WriteImatrix(calibration.importance, calibration.config,
               {.files = calibration.text.names,
                .windows = calibration.windows,
                .length = calibration.length},
               file);
}

}  // namespace lieq
