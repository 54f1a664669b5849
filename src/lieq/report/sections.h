// The sections of a report. Each gives its content, or nothing where no record has what it shows.
#pragma once

#include <span>
#include <string_view>

#include "lieq/report/html.h"
#include "lieq/report/records.h"

namespace lieq {

struct SectionRow {
  std::string_view id;
  std::string_view title;
  std::string_view intro;  // how to read it; may be empty
  Html (*draw)(const Records& records);
};

/// In the order of the page.
[[nodiscard]] std::span<const SectionRow> Sections() noexcept;

// section_model.cpp
[[nodiscard]] Html DrawGlance(const Records& records);
[[nodiscard]] Html DrawSizes(const Records& records);
[[nodiscard]] Html DrawEvaluations(const Records& records);
[[nodiscard]] Html DrawTasks(const Records& records);
// section_loss.cpp
[[nodiscard]] Html DrawLoss(const Records& records);
// section_distance.cpp
[[nodiscard]] Html DrawDistances(const Records& records);
[[nodiscard]] Html DrawAnswers(const Records& records);
// section_tuning.cpp
[[nodiscard]] Html DrawTuning(const Records& records);
// section_layers.cpp
[[nodiscard]] Html DrawLayers(const Records& records);
[[nodiscard]] Html DrawDiagnostics(const Records& records);
[[nodiscard]] Html DrawErrors(const Records& records);
// section_sensitivity.cpp
[[nodiscard]] Html DrawPrediction(const Records& records);
[[nodiscard]] Html DrawSensitivity(const Records& records);
// section_studies.cpp
[[nodiscard]] Html DrawSweeps(const Records& records);
[[nodiscard]] Html DrawStudies(const Records& records);
// section_settings.cpp
[[nodiscard]] Html DrawCost(const Records& records);
[[nodiscard]] Html DrawSettings(const Records& records);

}  // namespace lieq
