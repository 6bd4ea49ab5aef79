// SmoothQuant as the paper writes it, slowly: plain loops in FP64 over tokens and channels. What the fast
// path is tested against.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/scheme.h"

namespace lathe {

/// Equation 4 of arXiv 2211.10438: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha). x: Float [tokens, in];
/// weight: Float [rows, in], the rows of all consumers. Double [in], not limited: x and w may hold no channel
/// that is always 0.
at::Tensor smoothquant_scales_reference(const at::Tensor& x, const at::Tensor& weight, double alpha);

/// The mean over tokens of |Q(x / s) Q(W s)^T - x W^T|^2: what rounding both really costs (equation 1 for the
/// grids). One scale for each row of weights, symmetric; activations as `scheme` says, static ones over the
/// range of all tokens. scales: Double [in].
double w8a8_error_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                            const Scheme& weights, const ActivationScheme& scheme);

}  // namespace lathe
