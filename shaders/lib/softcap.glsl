// Soft-caps: y = cap tanh(x / cap), and dy/dx from y. tanh of what is far out is cut, since drivers may
// compute it from e^2x. Gemma 2, arXiv 2408.00118, section 2.
#define SOFTCAP(x, cap) ((cap) * tanh(clamp((x) / (cap), -20.0, 20.0)))
#define SOFTCAP_SLOPE(y, cap) (1.0 - (y) / (cap) * ((y) / (cap)))
