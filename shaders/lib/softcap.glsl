// Soft-caps: y = cap tanh(x / cap), and dy/dx from y. Gemma 2, arXiv 2408.00118, section 2.
// tanh is losses/prelude.h's safe_tanh(): drivers' own may lose its digits near 0 and overflow far out.
float safe_tanh(float x)
{
    const float q = x * x, e = exp(-2.0 * abs(x));
    const float series = x * (1.0 + q * (-1.0 / 3.0 + q * (2.0 / 15.0 - q * 17.0 / 315.0)));
    const float quotient = (1.0 - e) / (1.0 + e);
    return q < 0.01 ? series : x < 0 ? -quotient : quotient;
}

vec4 safe_tanh(vec4 x) { return vec4(safe_tanh(x.x), safe_tanh(x.y), safe_tanh(x.z), safe_tanh(x.w)); }

#define SOFTCAP(x, cap) ((cap) * safe_tanh((x) / (cap)))
#define SOFTCAP_SLOPE(y, cap) (1.0 - (y) / (cap) * ((y) / (cap)))
