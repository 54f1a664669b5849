#include "lieq/report/sections.h"

#include <array>

namespace lieq {
namespace {

constexpr std::array kSections{
    SectionRow{"glance", "At a glance", "", DrawGlance},
    SectionRow{"perplexity", "Perplexity",
               "The margin is 95 % over windows. Compare only rows with the same text, windows and "
               "context.",
               DrawEvaluations},
    SectionRow{"tasks", "Zero-shot tasks",
               "Share of right answers; the margin is 95 % over questions.", DrawTasks},
    SectionRow{"sizes", "Where the bytes are", "", DrawSizes},
    SectionRow{"layers", "Layer by layer",
               "From the first layer at the left to the last at the right. Darker in the light "
               "theme, brighter in the dark one, is more.",
               DrawLayers},
    SectionRow{"diagnostics", "Diagnostics by depth",
               "What was measured about each layer. The perplexity drop is what a removal costs; "
               "compactness and top-k energy compare its outputs with those of random weights.",
               DrawDiagnostics},
    SectionRow{"prediction", "Do cheap scores predict the damage?",
               "Each mark is a layer. Spearman's rho is 1 where both orders agree and 0 where they "
               "have nothing to do with each other; below 0.7 the cheap ranking should not be "
               "trusted on this model.",
               DrawPrediction},
    SectionRow{"sensitivity", "Sensitivity of each unit",
               "What the model loses where one unit alone is quantized.", DrawSensitivity},
    SectionRow{"errors", "Error of each linear",
               "Squared error of the outputs over their squared size, on the calibration tokens.",
               DrawErrors},
    SectionRow{"sweeps", "Perplexity against real bits",
               "Each mark is a whole model that was quantized and measured. Bits count codes, "
               "scales and zero-points.",
               DrawSweeps},
    SectionRow{"studies", "Studies", "", DrawStudies},
    SectionRow{"cost", "Time and memory", "", DrawCost},
    SectionRow{"settings", "Settings", "", DrawSettings},
};

}  // namespace

std::span<const SectionRow> Sections() noexcept {
  return kSections;
}

}  // namespace lieq
