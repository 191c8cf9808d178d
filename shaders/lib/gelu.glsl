// GELU by tanh, and its derivative: y = x / 2 (1 + tanh u), u = sqrt(2 / pi) (x + 0.044715 x^3), written
// with the sigmoid of 2 u, which keeps its small tail. Hendrycks and Gimpel 2016, arXiv 1606.08415.
#define GELU_A 1.5957691216057308 // 2 sqrt(2 / pi)
#define GELU_B 0.044715

vec4 gelu(vec4 x) { return x * sigmoid(GELU_A * x * (1.0 + GELU_B * x * x)).value; }

vec4 gelu_slope(vec4 x)
{
    const sigmoids s = sigmoid(GELU_A * x * (1.0 + GELU_B * x * x));
    return s.value * (1.0 + x * s.rest * GELU_A * (1.0 + 3.0 * GELU_B * x * x));
}
