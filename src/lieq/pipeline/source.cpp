#include "lieq/pipeline/source.h"

#include "lieq/pipeline/calibration_text.h"

namespace lieq {

const std::string& Source::hash() {
  if (!hash_) hash_ = HashModel(model_);
  return *hash_;
}

const EncodedText& Source::calibration() {
  if (!calibration_) calibration_ = CalibrationText(request_, model_, session_);
  return *calibration_;
}

const Windows& Source::windows() {
  if (!windows_) windows_ = CalibrationWindows(request_, calibration(), config(), session_.log());
  return *windows_;
}

}  // namespace lieq
