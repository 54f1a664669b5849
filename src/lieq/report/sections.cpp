#include "lieq/report/sections.h"

#include <array>

namespace lieq {
namespace {

constexpr std::array kSections{
    SectionRow{"glance", "At a glance", "", DrawGlance},
    SectionRow{
        "loss", "File size against loss",
        "Each mark is a model file; down and to the left is better. Numbers at the marks are "
        "bits a weight with scales and zero-points. KL divergence: how far the model's "
        "probabilities of the next token are from the source's, 0 where they are the same.",
        DrawLoss},
    SectionRow{
        "perplexity", "Perplexity",
        "The model is as unsure of the next token as if it chose among this many: lower is better. "
        "The margin is 95 % over windows. The gap is the logarithm of the perplexity over "
        "that of the source. Compare only rows with the same text, windows and context.",
        DrawEvaluations},
    SectionRow{"distance", "Distance to the source",
               "How far a model's probabilities of the next token are from the source's (KL "
               "divergence, nats a token). The mean hides that a few tokens may be far off: the "
               "curve shows what share of tokens diverges more than so much, lower is better. Same "
               "top: share of tokens with the same likeliest one, and mean share of the source's 5 "
               "likeliest that the model has among its own.",
               DrawDistances},
    SectionRow{"answers", "Answers",
               "What a model answers where the likeliest token comes each time. Empty: it ended at "
               "once. Repeating: it goes round in circles up to the last token that it may write. "
               "End missed: it does not end where the source does.",
               DrawAnswers},
    SectionRow{"tasks", "Zero-shot tasks",
               "Share of right answers; the margin is 95 % over questions.", DrawTasks},
    SectionRow{"sizes", "Where the bytes are",
               "Codes: the packed weights of the layers. Scales: one for each group of codes, with "
               "its zero-point where it has one. Other: norms, biases and the headers of files.",
               DrawSizes},
    SectionRow{"tuning", "Tuning",
               "Training of scales, norms and biases, or of codes too, towards the float model's "
               "probabilities (KL divergence, nats a token). Windows held out are not trained on; "
               "the state that was best on them is the model.",
               DrawTuning},
    SectionRow{"layers", "Layer by layer",
               "From the first layer at the left to the last at the right. Darker in the light "
               "theme, brighter in the dark one, is more. Bits are the width of a layer's codes; "
               "the score is what its ranking orders the layers by.",
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
    SectionRow{
        "sensitivity", "Sensitivity of each unit",
        "What the model loses where one unit alone is quantized. NLL: the mean negative logarithm "
        "of the probability that the model gives the next token, in nats. KL: how far its "
        "probabilities are from those of the whole model.",
        DrawSensitivity},
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
