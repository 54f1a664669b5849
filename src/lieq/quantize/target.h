// Weights that make up for what quantization did to a linear's inputs.
#pragma once

#include "lieq/base/context.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/unit_statistics.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// The W* that a linear is rounded to.
///
/// E|W x - Q u|² = const + trace((Q - W*) H (Q - W*)ᵀ) with H = E[u uᵀ] and
/// W* = W + W D H⁻¹, D = E[(x - u) uᵀ]: the exact quadratic behind QEP (NeurIPS 2025) and GPTAQ
/// (arXiv:2504.02692). For o and down, W x + r is what must be met, r the residual stream, which
/// adds F H⁻¹, F = E[(r - r_u) uᵀ] (LoaQ, arXiv:2509.06297). Here W* = W + (drift W D + residual F)
/// (H + damping)⁻¹: strengths below 1 keep the noise of D and F out.
///
/// w [out, in], factor of statistics.gram; returns [out, in].
[[nodiscard]] Matrix<double> CorrectedTarget(View<const float, 2> w,
                                             const UnitStatistics& statistics,
                                             const GptqFactor& factor, double drift,
                                             double residual, Context& context);

}  // namespace lieq
