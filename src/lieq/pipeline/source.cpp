#include "lieq/pipeline/source.h"

#include <utility>

#include "lieq/pipeline/calibration_text.h"

namespace lieq {

Source::Source(const QuantizeRequest& request, Session& session)
    : request_(request), session_(session), model_(OpenInput(request.model, session.log())) {
  std::packaged_task<std::string(std::stop_token)> task(
      [this](std::stop_token stop) { return HashModel(model_, std::move(stop)); });
  hashed_ = task.get_future();
  hashing_ = std::jthread(std::move(task));
}

const std::string& Source::hash() {
  if (!hash_) hash_ = hashed_.get();
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
