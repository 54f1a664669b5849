// Measures how far a quantized model is from its source on a text, and writes it as one GGUF file.
#include <cstdio>
#include <exception>

#include "lieq/base/error.h"
#include "lieq/pipeline/evaluate.h"
#include "lieq/pipeline/export.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: measure_model MODEL SOURCE TEXT OUT.gguf\n");
    return 2;
  }
  try {
    lieq::Progress silent;
    lieq::Session session({.threads = 2, .cache = "cache"}, lieq::Log(), silent);

    lieq::EvaluateRequest measured;  // all that is not named has the program's default
    measured.models = {argv[1]};
    measured.reference = argv[2];
    measured.texts = {argv[3]};
    measured.context = 256;
    measured.samples = 4;
    for (const lieq::ModelEvaluation& model : lieq::Evaluate(measured, session)) {
      const lieq::TextEvaluation& text = model.texts.front();
      std::printf("perplexity %.3f, %.5f nats from the source, %.3f bits a weight\n",
                  text.result.perplexity, text.divergence->mean_kl, model.sizes.BitsPerWeight());
    }

    lieq::ExportRequest exported;
    exported.model = argv[1];
    exported.output = argv[4];
    exported.exporter = &lieq::FindExporter("gguf");
    const lieq::ExportOutcome outcome = lieq::Export(exported, session);
    std::printf("%s: %llu bytes, %s\n", argv[4], static_cast<unsigned long long>(outcome.bytes),
                outcome.good() ? "the same model" : "another model");
  } catch (const std::exception& error) {  // lieq::Error says what, where, expected and found
    std::fprintf(stderr, "measure_model: %s\n", error.what());
    return 3;
  }
  return 0;
}
