// Quantizes a model with the library to a mix of 2 and 4 bits a weight, at most 2.5 on average.
#include <cstdio>
#include <exception>
#include <string>

#include "lieq/base/error.h"
#include "lieq/pipeline/quantize.h"

namespace {

/// One line on stderr for each stage that begins.
class Stages : public lieq::Progress {
 public:
  void Begin(std::string_view stage, std::string_view /*unit*/, std::int64_t /*total*/) override {
    std::fprintf(stderr, "%.*s ...\n", static_cast<int>(stage.size()), stage.data());
  }
  void Update(std::int64_t /*done*/, std::string_view /*note*/) override {}
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: quantize_model MODEL OUT\n");
    return 2;
  }
  lieq::QuantizeRequest request;  // all that is not named has the program's default
  request.model = argv[1];
  request.output = argv[2];
  request.budget.bits = 2.5;
  request.quant.method = "gptq";
  request.calibration.samples = 8;
  request.calibration.context = 256;
  try {
    const lieq::Log log([](lieq::LogLevel /*level*/, std::string_view text) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
    });
    Stages stages;
    lieq::Session session({.threads = 2}, log, stages);
    const lieq::QuantizeOutcome outcome = lieq::Quantize(request, session);
    std::printf("%s: %.4f code bits a weight, %llu bytes\n", argv[2],
                outcome.record["code_bits_per_weight"].get<double>(),
                outcome.record["bytes"].get<unsigned long long>());
  } catch (const std::exception& error) {  // lieq::Error says what, where, expected and found
    std::fprintf(stderr, "quantize_model: %s\n", error.what());
    return 3;
  }
  return 0;
}
