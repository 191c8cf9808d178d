// GELU, y = x P(x), P the normal distribution's, and its derivative. The tail P(-|x|) is a Chebyshev fit
// of erfc with a relative error of 1.2e-7 everywhere (Press et al., Numerical Recipes, 6.2).
// Hendrycks and Gimpel 2016, arXiv 1606.08415.
#include "exp2.glsl"

float normal_tail(float x) // P(-x), x >= 0
{
    const float z = 0.70710678 * x, t = 1.0 / (1.0 + 0.5 * z);
    float sum = 0.17087277;

    sum = -0.82215223 + t * sum;
    sum = 1.48851587 + t * sum;
    sum = -1.13520398 + t * sum;
    sum = 0.27886807 + t * sum;
    sum = -0.18628806 + t * sum;
    sum = 0.09678418 + t * sum;
    sum = 0.37409196 + t * sum;
    sum = 1.00002368 + t * sum;
    sum = -1.26551223 + t * sum;
    return 0.5 * t * exp2_neg(1.44269504 * min(sum - z * z, 0.0));
}

float normal_below(float x)
{
    const float tail = normal_tail(abs(x));

    return x < 0.0 ? tail : 1.0 - tail;
}

float gelu(float x) { return x * normal_below(x); }

float gelu_slope(float x)
{
    return normal_below(x) + x * 0.39894228 * exp2_neg(-0.72134752 * x * x);
}
