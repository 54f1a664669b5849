// What keys and values of fewer bits cost: perplexity of a text whose tokens a decoder is given one
// by one, for each type of cache.
//
//     cache_loss MODEL TEXT [WINDOWS] [CONTEXT]
//
// Windows of CONTEXT tokens (512) from the beginning of the text (8 windows); float kernels.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/decoder.h"
#include "lieq/text/tokenizer.h"

namespace lieq {
namespace {

double LogSumExp(std::span<const float> logits) {
  double sum = 0;
  const double most = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum);
}

int Run(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: cache_loss MODEL TEXT [WINDOWS] [CONTEXT]\n");
    return 2;
  }
  const Index windows = argc > 3 ? std::atoll(argv[3]) : 8;
  const Index context = argc > 4 ? std::atoll(argv[4]) : 512;
  const ModelFolder model = OpenModel(argv[1]);
  const Tokenizer tokenizer = Tokenizer::Open(std::filesystem::path(argv[1]) / "tokenizer.json");
  const std::vector<TokenId> ids = tokenizer.Encode(ReadText(argv[2]).substr(0, 4000000));
  if (static_cast<Index>(ids.size()) < windows * context) {
    std::fprintf(stderr, "the text has %zu tokens\n", ids.size());
    return 2;
  }
  ThreadPool pool(2);
  double of_float = 0;
  for (const CacheType type : {CacheType::kFloat, CacheType::kF16, CacheType::kInt8}) {
    const auto device = MakeCpuDevice(pool, {.cache = type});
    Decoder decoder(model.weights, *device, 1, context);
    Matrix<float> logits(1, decoder.vocab());
    double nll = 0;
    for (Index w = 0; w < windows; ++w) {
      decoder.Rewind(0);
      for (Index t = 0; t + 1 < context; ++t) {
        decoder.Append({ids.data() + w * context + t, 1, 1}, logits.view());
        const std::span<const float> row = logits.view().Row(0);
        nll += LogSumExp(row) - static_cast<double>(row[Size(ids[Size(w * context + t + 1)])]);
      }
    }
    const double perplexity = std::exp(nll / static_cast<double>(windows * (context - 1)));
    if (type == CacheType::kFloat) of_float = perplexity;
    std::printf("%-6s %.5f %+.4f %%\n", std::string(Name(type)).c_str(), perplexity,
                100 * (perplexity / of_float - 1));
  }
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int argc, char** argv) {
  return lieq::Run(argc, argv);
}
