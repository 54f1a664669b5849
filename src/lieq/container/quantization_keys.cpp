#include "lieq/container/quantization_keys.h"

#include <algorithm>

#include "lieq/io/printable.h"

namespace lieq {
namespace {

bool Says(const Record& config, std::string_view key) {
  const auto found = config.find(std::string(key));
  return found != config.end() && !found->is_null();
}

/// "gptq", where the key names a method.
std::string MethodOf(const Record& quantization) {
  if (!quantization.is_object()) return {};
  const auto method = quantization.find("quant_method");
  return method != quantization.end() && method->is_string()
             ? Printable(method->get<std::string>(), 60)
             : std::string();
}

}  // namespace

bool SaysQuantized(const Record& config) {
  return std::ranges::any_of(kQuantizationKeys,
                             [&](std::string_view key) { return Says(config, key); });
}

bool HoldsFloatsOnly(const TensorFile& tensors) {
  bool weights = false;
  for (const auto& [name, tensor] : tensors.tensors()) {
    if (name.ends_with("rotary_emb.inv_freq")) continue;  // of old checkpoints (CheckAllRead)
    const bool weight = name.ends_with(".weight");
    const bool floats =
        tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF16 || tensor.dtype == DType::kF32;
    if (!floats || (!weight && !name.ends_with(".bias"))) return false;
    weights = weights || weight;
  }
  return weights;
}

std::string EraseQuantization(Record& config) {
  std::string keys, method;
  for (const std::string_view key : kQuantizationKeys) {
    if (Says(config, key)) {
      keys += (keys.empty() ? "" : " and ") + ("'" + std::string(key) + "'");
      if (method.empty()) method = MethodOf(config.at(std::string(key)));
    }
    config.erase(std::string(key));
  }
  return "config.json has " + keys + (method.empty() ? "" : " (" + method + ")") +
         ", but all weights are floats: what it says of quantization is left aside";
}

}  // namespace lieq
