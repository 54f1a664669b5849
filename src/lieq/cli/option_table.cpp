#include "lieq/cli/option_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lieq/base/rows.h"
#include "lieq/cli/option_values.h"
#include "lieq/cli/transforming.h"
#include "lieq/diagnose/settings.h"
#include "lieq/evaluate/task_description.h"
#include "lieq/plan/exports.h"
#include "lieq/plan/rankings.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/transform/transforms.h"

namespace lieq {
namespace {

constexpr std::array kOptions{
    OptionRow{.names = "--output,-o",
              .value = "PATH",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kReport | kStudy | kExport,
              .help = "file (diagnose, sensitivity, plan, report) or folder (quantize, export) to "
                      "write",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.output = v; }},
    OptionRow{.names = "--bits",
              .value = "B",
              .commands = kPlan | kQuantize | kStudy,
              .help = "average code bits: the layers that score highest get the higher of two "
                      "widths (default 2.25)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.bits = Parse<double>("--bits", v, 1.0, 16.0, "a number of bits such as 2.25");
                  }},
    OptionRow{.names = "--bpw",
              .value = "B",
              .commands = kPlan | kQuantize,
              .help = "ceiling on all-in bits a weight: scales and zero-points counted",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.bpw = Parse<double>("--bpw", v, 1.0, 33.0, "a number of bits such as 2.5");
                  }},
    OptionRow{.names = "--size",
              .value = "BYTES",
              .commands = kPlan | kQuantize,
              .help = "ceiling on the weight files, embedding and head counted; K, M and G stand "
                      "for 1000, its square and its cube (Ki, Mi, Gi for 1024)",
              .set = [](Arguments& a, const std::string& v) { a.size = ParseSize("--size", v); }},
    OptionRow{.names = "--high-layers",
              .value = "M",
              .commands = kPlan | kQuantize | kStudy,
              .help = "this many layers get the higher width",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.high_layers =
                        Parse<Index>("--high-layers", v, 0, 4096, "a whole number of layers");
                  }},
    OptionRow{.names = "--allocation",
              .value = "NAME",
              .commands = kPlan | kQuantize,
              .help = "how the budget is spent: optimal (least predicted damage; the default of "
                      "--bpw and --size where no ranking is named), top-m (layers by the ranking; "
                      "the default otherwise) or uniform (--uniform)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    if (v != "top-m" && v != "optimal" && v != "uniform") {
                      throw UsageError("--allocation: expected top-m, optimal or uniform, found '" +
                                       v + "'");
                    }
                    a.allocation = v;
                  }},
    OptionRow{.names = "--granularity",
              .value = "NAME",
              .commands = kPlan | kQuantize,
              .help = "of optimal plans: group (default: a grid for each of qkv, o, gate_up and "
                      "down) or layer (one for a layer)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    if (v != "group" && v != "layer") {
                      throw UsageError("--granularity: expected group or layer, found '" + v + "'");
                    }
                    a.by_group = v == "group";
                  }},
    OptionRow{.names = "--embedding-bits",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "width of the embedding, and of the head tied to it: 16 (default), 8 or 4, "
                      "symmetric in groups of --group-size, rounded to nearest",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.embedding_bits = ParseEdgeBits("--embedding-bits", v);
                  }},
    OptionRow{.names = "--head-bits",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "width of a head of its own: 16 (default), 8 or 4",
              .set = [](Arguments& a,
                        const std::string& v) { a.head_bits = ParseEdgeBits("--head-bits", v); }},
    OptionRow{.names = "--sensitivities",
              .value = "FILE",
              .commands = kPlan | kQuantize | kStudy,
              .help = "damages of an optimal plan, made by `lieq sensitivity` (default: measured)",
              .set = [](Arguments& a, const std::string& v) { a.sensitivities = v; }},
    OptionRow{.names = "--check",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "run N mixes, the plan first, to compare the predicted damage with the true "
                      "one (default 4; 0: none)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.check = Parse<Index>("--check", v, 0, 10000, "a whole number");
                  }},
    OptionRow{.names = "--refine",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "improve an optimal plan by N runs of a local search on the true damage "
                      "(default 0)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.refine = Parse<Index>("--refine", v, 0, 1000000, "a whole number");
                  }},
    OptionRow{.names = "--assemble",
              .value = "",
              .commands = kQuantize,
              .help = "put the model together from --codes, made on the float model's inputs, "
                      "instead of quantizing layer after layer on the quantized ones",
              .set = [](Arguments& a, const std::string&) { a.assemble = true; }},
    OptionRow{.names = "--widths",
              .value = "LOW,HIGH",
              .commands = kPlan | kQuantize | kStudy,
              .help = "the two widths that --bits mixes (default 2,4)",
              .set = SetWidths},
    OptionRow{
        .names = "--uniform",
        .value = "N",
        .commands = kPlan | kQuantize,
        .help = "N bits in every layer: 2, 3, 4 or 8",
        .set = [](Arguments& a, const std::string& v) { a.uniform = ParseWidth("--uniform", v); }},
    OptionRow{.names = "--ranking",
              .value = "NAME",
              .commands = kPlan | kQuantize | kStudy,
              .help = "what orders the layers for --bits",  // the names follow: Options()
              .set =
                  [](Arguments& a, const std::string& v) {
                    (void)FindRanking(v);
                    a.ranking = v;
                    a.says_ranking = true;
                  }},
    OptionRow{.names = "--ranking-weights",
              .value = "P,C,E",
              .commands = kPlan | kQuantize,
              .help =
                  "of perplexity drop, compactness and energy in the ranking combined (default: "
                  "a third each)",
              .set = SetRankingWeights},
    OptionRow{.names = "--scores",
              .value = "FILE",
              .commands = kPlan | kQuantize,
              .help = "scores of the ranking file: a JSON array, one number a layer, or an object "
                      "with \"scores\"",
              .set = [](Arguments& a, const std::string& v) { a.scores = v; }},
    OptionRow{.names = "--plan",
              .value = "FILE",
              .commands = kPlan | kQuantize | kStudy,
              .help = "take the bits of each layer from this plan",
              .set = [](Arguments& a, const std::string& v) { a.plan = v; }},
    OptionRow{
        .names = "--as",
        .value = "KIND",
        .commands = kPlan,
        .help = "write the plan for another quantizer",  // the names follow: Options()
        .set = [](Arguments& a, const std::string& v) { a.plan_as = FindPlanExport(v).name; }},
    OptionRow{.names = "--diagnostics",
              .value = "FILE",
              .commands = kPlan,
              .help = "score layers by these measurements instead of making them",
              .set = [](Arguments& a, const std::string& v) { a.diagnostics = v; }},
    OptionRow{
        .names = "--method",
        .value = "NAME",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "rtn (round to nearest), weighted (the same by the mean square of each input), awq "
                "(the same of scaled channels), gptq, or best (default): GPTQ towards a target "
                "that makes up for earlier layers, then coordinate descent and grid refits",
        .set = [](Arguments& a, const std::string& v) { a.quant.method = FindQuantizer(v).name; }},
    OptionRow{.names = "--transform",
              .value = "LIST",
              .commands = kQuantize,
              .help = "other weights of the same function first",  // the names follow: Options()
              .set = SetTransforms},
    OptionRow{.names = "--group-size",
              .value = "G",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "input channels that share a scale, where the plan does not say: a "
                      "multiple of 16 up to 256 (default 64), or row; many engines know 32, 64 and "
                      "128 alone (docs/serving.md)",
              .set = SetGroupSize},
    OptionRow{.names = "--offset",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help =
                  "where zero lies among the codes: symmetric (default: at the middle one), half "
                  "(between the middle two), integer (a zero-point for each group) or float (a "
                  "minimum for each group); engines load the first and the third",
              .set = [](Arguments& a, const std::string& v) { SetOffset(a, ParseOffset(v)); }},
    OptionRow{.names = "--symmetric",
              .value = "",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "as --offset symmetric",
              .set = [](Arguments& a, const std::string&) { SetOffset(a, Offset::kSymmetric); }},
    OptionRow{.names = "--asymmetric",
              .value = "",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "as --offset integer",
              .set = [](Arguments& a, const std::string&) { SetOffset(a, Offset::kInteger); }},
    OptionRow{.names = "--grid",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize,
              .help =
                  "affine (default: by --group-size and --offset), q2_k, q3_k or q4_k (that "
                  "grid of llama.cpp in every layer), or k-quant (the one of each layer's width)",
              .set = SetGrid},
    OptionRow{
        .names = "--act-order",
        .value = "KIND",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "order in which gptq rounds columns: none, static (default) or group",
        .set = [](Arguments& a, const std::string& v) { a.quant.act_order = ParseActOrder(v); }},
    OptionRow{.names = "--damping",
              .value = "D",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "share of the mean diagonal added to the Gram matrix (default 0.01)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.damping = Parse<double>("--damping", v, 0.0, 1.0, "0 to 1");
                  }},
    OptionRow{.names = "--clip",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "outermost level at the extreme weight (none) or where the error is least "
                      "(search, default)",
              .set = [](Arguments& a, const std::string& v) { a.quant.clip = ParseClip(v); }},
    OptionRow{.names = "--drift",
              .value = "S",
              .commands = kQuantize | kStudy,
              .help = "share, 0 to 1, of what earlier layers' quantization did to a linear's "
                      "inputs that its codes make up for, or two: at 2 bits and at more (default "
                      "0.5,1; rtn and gptq 0)",
              .set = [](Arguments& a,
                        const std::string& v) { a.quant.drift = ParseStrength("--drift", v); }},
    OptionRow{
        .names = "--residual",
        .value = "S",
        .commands = kQuantize | kStudy,
        .help = "the same for the residual stream, made up for in o and down (default "
                "0.5,1; rtn and gptq 0)",
        .set = [](Arguments& a,
                  const std::string& v) { a.quant.residual = ParseStrength("--residual", v); }},
    OptionRow{.names = "--rounds",
              .value = "N",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "of coordinate descent and grid refits after error feedback (default 4; rtn "
                      "and gptq 0)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.rounds = Parse<int>("--rounds", v, 0, 100, "0 to 100");
                  }},
    OptionRow{.names = "--no-search",
              .value = "",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "refit grids to the codes there are, without trying grids with other codes",
              .set = [](Arguments& a, const std::string&) { a.quant.search = false; }},
    OptionRow{.names = "--correct-bias",
              .value = "",
              .commands = kQuantize | kStudy,
              .help = "where linears have biases, these take over the mean of the output error in "
                      "each row whose held-out error falls by it (gptq, best, weighted, awq)",
              .set = [](Arguments& a, const std::string&) { a.quant.bias = true; }},
    OptionRow{.names = "--sink-cap",
              .value = "T",
              .commands = kQuantize | kStudy,
              .help = "count a token whose input is larger than T times the median (of squared "
                      "norms) as that much and no more (default 0: off)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.sink_cap = Parse<double>("--sink-cap", v, 0.0, 1e9, "0 to 1e9");
                  }},
    OptionRow{.names = "--loss-weights",
              .value = "P",
              .commands = kQuantize | kStudy,
              .help = "weigh calibration tokens by the P-th power of the loss's squared gradient: "
                      "one backward pass, so no longer gradient-free (default 0: off; 0.5 is "
                      "steadier than 1)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.loss_weights = Parse<double>("--loss-weights", v, 0.0, 1.0, "0 to 1");
                  }},
    OptionRow{
        .names = "--text",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize,
        .help = "UTF-8 text, .jsonl or .json, or gzip of these to measure perplexity or damage on",
        .set = [](Arguments& a, const std::string& v) { a.text = v; }},
    OptionRow{
        .names = "--calibration",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate,
        .help =
            "UTF-8 texts, .jsonl or .json, or gzip of these whose activations are used (default: a "
            "bundled text); sensitivity, plan, quantize, calibrate: or self, a text that the "
            "model writes (by --seed)",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.calibration.emplace_back(v); }},
    OptionRow{
        .names = "--second-text",
        .value = "FILE",
        .commands = kDiagnose,
        .help = "texts of another kind: measure on them too, and say how far the rankings agree",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.second_text.emplace_back(v); }},
    OptionRow{.names = "--projections",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "linears whose spectra count: all (default) or qkv",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.projections = ParseChoice<Projections>("--projections", v);
                  }},
    OptionRow{.names = "--heads",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "outputs of q, k and v: per-head (default) or whole",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.heads = ParseChoice<Heads>("--heads", v);
                  }},
    OptionRow{.names = "--spectrum",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "what shares the energy: squared singular values (default) or plain ones",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.energies = ParseChoice<Energies>("--spectrum", v);
                  }},
    OptionRow{.names = "--inputs",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "of the linears: activations (default) of the calibration text, or weights: "
                      "none, the weights alone are measured",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.inputs = ParseChoice<SpectrumInputs>("--inputs", v);
                  }},
    OptionRow{.names = "--top-fraction",
              .value = "F",
              .commands = kDiagnose,
              .help = "share of the spectrum that top-k energy counts (default 0.1)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.top_fraction =
                        Parse<double>("--top-fraction", v, 1e-9, 1.0, "above 0, at most 1");
                  }},
    OptionRow{.names = "--twins",
              .value = "N",
              .commands = kDiagnose,
              .help = "random projections that each trained one is compared with (default 4)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.twins = Parse<int>("--twins", v, 1, 1024, "1 to 1024");
                  }},
    OptionRow{.names = "--spectrum-windows",
              .value = "N",
              .commands = kDiagnose,
              .help = "windows of the calibration text for spectra and block influence (default 4)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.spectrum_windows = Parse<Index>("--spectrum-windows", v, 1, kMostTokens,
                                                      "a whole number, at least 1");
                  }},
    OptionRow{
        .names = "--text-field",
        .value = "NAME,..",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help = "fields of a row that are its text, for .jsonl and .json files (default: text, or "
                "those of a known layout)",
        .set = SetTextFields},
    OptionRow{.names = "--line-ends",
              .value = "KIND",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                          kCalibrate | kGenerate,
              .help =
                  "of texts: lf (default: CRLF and CR are read as LF, as Python and the loaders "
                  "of data sets do) or keep",
              .set = SetLineEnds},
    OptionRow{
        .names = "--context",
        .value = "T",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help = "tokens in a window (default 1024; evaluate: by the convention)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.context =
                  Parse<Index>("--context", v, 2, kMostTokens, "a whole number, at least 2");
            }},
    OptionRow{
        .names = "--samples",
        .value = "N",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help =
            "windows from the start of the text (default: quantize and calibrate 128, or as many "
            "as the text has, else all)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.samples =
                  Parse<Index>("--samples", v, 1, kMostTokens, "a whole number, at least 1");
            }},
    OptionRow{
        .names = "--seed",
        .value = "S",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate | kGenerate,
        .help = "seed of everything random (default 0)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.seed = Parse<std::uint64_t>("--seed", v, 0, UINT64_MAX, "a whole number");
            }},
    OptionRow{.names = "--for",
              .value = "CONTAINER",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "use grids alone that this container holds exactly, and choose among them: "
                      "any, compressed-tensors, gptq, gguf or mlx (default: what the other options "
                      "say)",
              .set = [](Arguments& a, const std::string& v) { a.target = &FindTarget(v); }},
    OptionRow{.names = "--candidates",
              .value = "LIST",
              .commands = kSensitivity | kPlan | kQuantize,
              .help =
                  "grids to choose from, BITS:GROUP, BITS:GROUP:OFFSET or q2_k, q3_k, q4_k, and "
                  "commas between them (default: 2:128,2:64,2:32,3:128,4:128 where 128 divides "
                  "every row, else 2:64,2:32,3:64,4:64; with --for those of the container; "
                  "with --grid K-quants)",
              .set = SetCandidates},
    OptionRow{.names = "--codes",
              .value = "FOLDER",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "keep the codes of candidates here and use those that are there (default: "
                      "beside the output); quantize: put the model together from these codes",
              .set = [](Arguments& a, const std::string& v) { a.codes = v; }},
    OptionRow{.names = "--mode",
              .value = "MODE",
              .commands = kSensitivity,
              .help = "solo (default): one unit quantized, the others whole; context: one unit "
                      "changed in a quantized base mix",
              .set =
                  [](Arguments& a, const std::string& v) {
                    if (v != "solo" && v != "context") {
                      throw UsageError("--mode: expected solo or context, found '" + v + "'");
                    }
                    a.mode = v == "solo" ? DamageMode::kSolo : DamageMode::kContext;
                  }},
    OptionRow{.names = "--base",
              .value = "FILE",
              .commands = kSensitivity,
              .help = "plan of the base mix (default: the cheapest candidate everywhere)",
              .set = [](Arguments& a, const std::string& v) { a.base = v; }},
    OptionRow{.names = "--measure-all",
              .value = "",
              .commands = kSensitivity | kPlan,
              .help = "run every candidate, and predict none",
              .set = [](Arguments& a, const std::string&) { a.measure_all = true; }},
    OptionRow{.names = "--damage-windows",
              .value = "N",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "windows that damage is measured on (default 8)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.damage_windows = Parse<Index>("--damage-windows", v, 1, kMostTokens,
                                                    "a whole number, at least 1");
                  }},
    OptionRow{.names = "--damage-context",
              .value = "T",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "tokens in one of them (default 512)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.damage_context = Parse<Index>("--damage-context", v, 2, kMostTokens,
                                                    "a whole number, at least 2");
                  }},
    OptionRow{.names = "--texts",
              .value = "FILE",
              .commands = kStudy,
              .help = "texts to measure on; formats as of --calibration",
              .required = true,
              .many = true,
              .set = [](Arguments& a, const std::string& v) { a.texts.emplace_back(v); }},
    OptionRow{.names = "--windows",
              .value = "N",
              .commands = kStudy,
              .help = "windows of each text (default 8)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.windows = Parse<Index>("--windows", v, 1, kMostTokens, "at least 1");
                  }},
    OptionRow{.names = "--lengths",
              .value = "LIST",
              .commands = kStudy,
              .help = "tokens in a window, commas between them (default 1024)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.lengths = ParseList("--lengths", v, 2, "whole numbers such as 512,1024");
                  }},
    OptionRow{.names = "--sizes",
              .value = "LIST",
              .commands = kStudy,
              .help = "calibration: numbers of windows (default 128)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sizes = ParseList("--sizes", v, 1, "whole numbers such as 32,128");
                  }},
    OptionRow{.names = "--rankings",
              .value = "LIST",
              .commands = kStudy,
              .help = "layers: rankings to sweep (default compactness,energy,first)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.rankings = SplitAtCommas(v);
                    for (const std::string& name : a.rankings) (void)FindRanking(name);
                  }},
    OptionRow{.names = "--most",
              .value = "M",
              .commands = kStudy,
              .help = "layers: raise 1 to M layers (default 16)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.most = Parse<Index>("--most", v, 1, 4096, "a whole number of layers");
                  }},
    OptionRow{.names = "--group-sizes",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: group sizes (default 64)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.group_sizes.clear();
                    for (const std::string& part : SplitAtCommas(v)) {
                      a.group_sizes.push_back(ParseGroup("--group-sizes", part));
                    }
                  }},
    OptionRow{.names = "--act-orders",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: orders of rounding (default static)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.act_orders.clear();
                    for (const std::string& part : SplitAtCommas(v)) {
                      a.act_orders.push_back(ParseActOrder(part));
                    }
                  }},
    OptionRow{.names = "--methods",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: quantizers (default best)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.methods = SplitAtCommas(v);
                    for (const std::string& name : a.methods) (void)FindQuantizer(name);
                  }},
    OptionRow{.names = "--transforms",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: none (default), or transforms joined by +, such as "
                      "none,rotate,permute+awq",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.transform_sets = SplitAtCommas(v);
                    for (const std::string& set : a.transform_sets) (void)TransformSet(set);
                  }},
    OptionRow{.names = "--imatrix",
              .value = "FILE",
              .commands = kCalibrate,
              .help = "importance matrix to write, for `llama-quantize --imatrix`: in GGUF where "
                      "the name ends in .gguf, else in the older binary form",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.imatrix = v; }},
    OptionRow{.names = "--to",
              .value = "NAME",
              .commands = kExport,
              .help = "container to write",  // the names follow: Options()
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.exporter = &FindExporter(v); }},
    OptionRow{
        .names = "--gptq-version",
        .value = "N",
        .commands = kExport,
        .help = "of the files of GPTQ: 1 or 2 (default 1 where every grid is symmetric, else 2)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.gptq_version = Parse<int>("--gptq-version", v, 1, 2, "1 or 2");
            }},
    OptionRow{.names = "--types",
              .value = "LIST",
              .commands = kExport,
              .help = "gguf: the types that the layers' matrices may take, each the narrowest that "
                      "holds it exactly: TQ2_0, Q2_0, Q2_K, Q3_K, Q4_0, Q4_K, Q4_1, Q5_0, Q8_0, "
                      "F16, BF16, F32 (default: those as wide as the codes, floats as they are)",
              .set = [](Arguments& a, const std::string& v) { a.types = SplitAtCommas(v); }},
    OptionRow{.names = "--embedding-type",
              .value = "TYPE",
              .commands = kExport,
              .help = "gguf: round the embedding, and the head tied to it, to Q8_0, F16, BF16 or "
                      "F32 (default: as it is)",
              .set = [](Arguments& a, const std::string& v) { a.embedding_type = v; }},
    OptionRow{.names = "--head-type",
              .value = "TYPE",
              .commands = kExport,
              .help = "gguf: the same for a head of its own",
              .set = [](Arguments& a, const std::string& v) { a.head_type = v; }},
    OptionRow{
        .names = "--approximate",
        .value = "",
        .commands = kExport | kVerify,
        .help = "gguf: round matrices that none of --types holds exactly to the first of "
                "them among TQ2_0, Q8_0, F16, BF16 and F32 (default: the narrowest type that holds "
                "a matrix, else Q8_0); verify: let matrices pass that were rounded like that",
        .set = [](Arguments& a, const std::string&) { a.approximate = true; }},
    OptionRow{.names = "--no-verify",
              .value = "",
              .commands = kExport,
              .help = "do not open and compare what was written",
              .set = [](Arguments& a, const std::string&) { a.verify = false; }},
    OptionRow{.names = "--against",
              .value = "MODEL",
              .commands = kVerify,
              .help = "the model that the export must equal",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.against = v; }},
    OptionRow{.names = "--threads",
              .value = "N",
              .commands = kAllCommands,
              .help = "threads (default: all processors); results do not depend on it",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.threads = Parse<int>("--threads", v, 1, 4096, "1 to 4096");
                  }},
    OptionRow{.names = "--kernels",
              .value = "ROW",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                          kCalibrate | kGenerate,
              .help = "kernel row: avx512, avx2 or scalar (default: the best this processor runs)",
              .set = [](Arguments& a, const std::string& v) { a.kernels = v; }},
    OptionRow{
        .names = "--arithmetic",
        .value = "TYPE",
        .commands = kEvaluate | kGenerate,
        .help = "of products: float32 (default), bf16, where the processor has it, or auto, what a "
                "short probe finds faster (the last digits of results follow it)",
        .set = SetArithmetic},
    OptionRow{.names = "--force",
              .value = "",
              .commands = kQuantize | kExport,
              .help = "replace an output that is there, and start over",
              .set = [](Arguments& a, const std::string&) { a.force = true; }},
    OptionRow{.names = "--dry-run",
              .value = "",
              .commands = kQuantize,
              .help = "print what the run will take and the bytes it will write, and stop",
              .set = [](Arguments& a, const std::string&) { a.dry_run = true; }},
    OptionRow{.names = "--json",
              .value = "",
              .commands = kAllCommands,
              .help = "print the result as JSON (docs/json.md)",
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

/// "gptq (a folder for ...), mlx (...)"
template <class Row>
std::string Described(std::span<const Row> rows) {
  std::string text;
  for (const Row& row : rows) {
    text += (text.empty() ? "" : ", ") + std::string(row.name) + " (" +
            std::string(row.description) + ")";
  }
  return text;
}

}  // namespace

std::span<const OptionRow> Options() noexcept {
  static const std::string ranking =
      "what orders the layers for --bits: " + std::string(RankingNames()) +
      " (default compactness)";
  static const std::string exports =
      "write the plan for another quantizer: " + std::string(PlanExportNames());
  static const std::string containers = "container to write: " + Described(Exporters());
  static const std::string conventions =
      "how perplexity is counted: " + Described(Conventions()) + "; default plain";
  static const std::string tasks =
      "zero-shot tasks: " + NamesOfRows(Tasks()) + ", or files that describe one (NAME.json)";
  static const std::string transforms =
      "other weights of the same function, before anything is rounded: " + TransformNames() +
      " (default none, of awq as method its own); or auto: those that lower the damage on held-out "
      "calibration windows, found by 12 to 15 short runs of the method, with rows that part a tied "
      "head only where named too: auto,rotate (docs/transforms.md)";
  static const auto options = [] {
    std::vector<OptionRow> rows(kOptions.begin(), kOptions.end());
    const auto common = std::ranges::find(rows, "--threads", &OptionRow::names);
    rows.insert(common, EvaluationOptions().begin(), EvaluationOptions().end());
    for (OptionRow& row : rows) {
      if (row.names == "--ranking") row.help = ranking;
      if (row.names == "--as") row.help = exports;
      if (row.names == "--to") row.help = containers;
      if (row.names == "--convention") row.help = conventions;
      if (row.names == "--tasks") row.help = tasks;
      if (row.names == "--transform") row.help = transforms;
    }
    return rows;
  }();
  return options;
}

}  // namespace lieq
