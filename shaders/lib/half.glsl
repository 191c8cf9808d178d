// IEEE half in the low 16 bits -> float by integer code: the same bits on every device, no f16 feature.
float half_to_float(uint h)
{
    const uint sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 1023u;
    uint magnitude = (exponent + 112u) << 23 | mantissa << 13;

    if (exponent == 0u) // zero and subnormals: exact, mantissa * 2^-24
        magnitude = floatBitsToUint(float(mantissa) * 5.9604644775390625e-8);
    else if (exponent == 31u)
        magnitude = 0x7f800000u | mantissa << 13;
    return uintBitsToFloat(sign | magnitude);
}
