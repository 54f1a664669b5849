// Options of the machine, and of messages.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/device/cpu/kernels.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/device/devices.h"

namespace lieq {
namespace {

/// The commands that run a model.
constexpr unsigned kComputing = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                                kCalibrate | kGenerate | kChat | kBench | kServe | kTune;

constexpr std::array kMachineRows{
    OptionRow{.names = "--threads,-t",
              .value = "N",
              .commands = kAllCommands,
              .help = "threads (default: all processors); results do not depend on it",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.machine.threads = Parse<int>("--threads", v, 1, 4096, "1 to 4096");
                  }},
    OptionRow{.names = "--device",
              .value = "NAME",
              .commands = kComputing,
              .help =
                  "what computes: cpu, cuda (an NVIDIA GPU; cuda:1 is the second of several, and "
                  "cuda:0,1 are both: sensitivity, evaluate, quantize, plan and study share "
                  "their work among them; docs/gpu.md) or auto, a GPU where there is one "
                  "(default: cpu)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    (void)FindDevice(v);
                    a.machine.device = v;
                  },
              .choices =
                  [] {
                    std::vector<std::string> names;
                    for (const DeviceRow& row : Devices()) names.emplace_back(row.name);
                    names.emplace_back(kAutoDevice);
                    return names;
                  },
              .open = true},
    OptionRow{.names = "--device-memory",
              .value = "BYTES",
              .commands = kComputing,
              .help = "what a GPU's memory holds at most: quantize keeps less there, and says what "
                      "it will take (8G; default: what there is)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.machine.device_memory = ParseSize("--device-memory", v);
                  }},
    OptionRow{.names = "--kernels",
              .value = "ROW",
              .commands = kComputing,
              .help = "kernel row (default: the best this processor runs), or packed, which runs "
                      "codes where they lie (docs/kernels.md; the default of "
                      "chat, serve and bench)",
              .set = [](Arguments& a, const std::string& v) { a.machine.kernels = v; },
              .choices =
                  [] {
                    std::vector<std::string> names;
                    for (const KernelSet* row : KernelSets()) names.emplace_back(row->name);
                    names.emplace_back("packed");
                    for (const PackedKernels* row : PackedKernelSets()) {
                      names.push_back("packed-" + std::string(row->name));
                    }
                    return names;
                  }},
    OptionRow{
        .names = "--activations",
        .value = "TYPE",
        .commands = kEvaluate | kGenerate | kChat | kBench | kServe,
        .help = "what packed kernels multiply codes with: int8, int16 or float",
        .set = SetActivations,
        .preset =
            [](const Arguments& a) { return Shown(std::string(Name(a.machine.activations))); },
        .choices =
            [] {
              return std::vector<std::string>(kActivationNames.begin(), kActivationNames.end());
            }},
    OptionRow{.names = "--kv-cache",
              .value = "TYPE",
              .commands = kEvaluate | kGenerate | kChat | kBench | kServe,
              .help = "what keys and values of a text are held in while it is written: float, f16 "
                      "or int8 (default: float; of chat, serve and bench f16)",
              .set = SetKvCache,
              .choices =
                  [] {
                    return std::vector<std::string>(kCacheTypeNames.begin(), kCacheTypeNames.end());
                  }},
    OptionRow{
        .names = "--arithmetic",
        .value = "TYPE",
        .commands = kEvaluate | kGenerate | kChat | kBench | kServe | kQuantize | kSensitivity |
                    kPlan | kTune,
        .help = "of products: float32, bf16, where the processor has it, or auto, what a short "
                "probe finds faster (the last digits of results follow it); of quantize, "
                "sensitivity and plan with --device cuda alone; of tune bf16 where a matrix unit "
                "makes it several times as fast",
        .set = SetArithmetic,
        .preset =
            [](const Arguments& a) {
              return Shown(
                  std::string(a.machine.arithmetic == Arithmetic::kBf16 ? "bf16" : "float32"));
            },
        .choices = [] { return std::vector<std::string>{"float32", "bf16", "auto"}; }},
    OptionRow{.names = "--json",
              .value = "",
              .commands = kAllCommands & ~(kChat | kServe),
              .help = "print the result as JSON (docs/records.md)",
              .set = [](Arguments& a, const std::string&) { a.json = true; }},
    OptionRow{.names = "--verbose,-v",
              .value = "",
              .commands = kAllCommands,
              .help = "say more on stderr",
              .set = [](Arguments& a, const std::string&) { a.verbose = true; }},
    OptionRow{.names = "--quiet,-q",
              .value = "",
              .commands = kAllCommands,
              .help = "say nothing but errors on stderr",
              .set = [](Arguments& a, const std::string&) { a.quiet = true; }},
};

}  // namespace

std::span<const OptionRow> MachineOptions() noexcept {
  return kMachineRows;
}

}  // namespace lieq
