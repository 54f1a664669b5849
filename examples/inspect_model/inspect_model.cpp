// Opens a model folder with the library and prints its layers and how many weights each holds.
#include <cstdint>
#include <cstdio>
#include <exception>

#include "lieq/container/model_folder.h"

namespace {

/// "q 4096x1024 bf16" or "q 4096x1024 2 bits", for a linear of a layer
void PrintLinear(const lieq::LayerWeights& layer, lieq::Site site) {
  const lieq::AnyMatrix& weight = layer.At(site).weight;
  const auto* quantized = std::get_if<std::shared_ptr<const lieq::QMatrix>>(&weight);
  std::printf("  %s %lldx%lld", Name(site).data(), static_cast<long long>(lieq::Rows(weight)),
              static_cast<long long>(lieq::Cols(weight)));
  if (quantized != nullptr) std::printf(" at %d bits", (*quantized)->grid().bits);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: inspect_model MODEL\n");
    return 2;
  }
  try {
    const lieq::ModelFolder model = lieq::OpenModel(argv[1]);
    const lieq::ModelConfig& config = model.weights.config;
    std::printf("%s: %lld layers, %s\n", config.architecture.c_str(),
                static_cast<long long>(config.layers), model.quantized ? "quantized" : "float");
    std::int64_t total = 0;
    for (std::size_t i = 0; i < model.weights.layers.size(); ++i) {
      std::int64_t weights = 0;
      std::printf("layer %zu:", i);
      for (const lieq::Site site : lieq::kAllSites) {
        PrintLinear(model.weights.layers[i], site);
        weights += config.Out(site) * config.In(site);
      }
      std::printf("  = %lld weights\n", static_cast<long long>(weights));
      total += weights;
    }
    std::printf("all layers: %lld weights\n", static_cast<long long>(total));
  } catch (const std::exception& error) {  // lieq::Error says what, where, expected and found
    std::fprintf(stderr, "inspect_model: %s\n", error.what());
    return 3;
  }
  return 0;
}
