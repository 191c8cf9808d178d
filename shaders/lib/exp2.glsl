// 2^x for x <= 127, exactly 1 at 0, exactly 0 below -127; a NaN stays one. The relative error is 3.4e-6
// half way between whole numbers, downwards, and 4e-7 on average; the built-in exp2 may be off by 3 + 2 |x|
// units in the last place. (Rounding by adding 1.5 * 2^23 and taking it away again is not safe: SwiftShader
// folds that to nothing, `precise` or not.)
float exp2_neg(float x)
{
    const float c = x < -127.0 ? -127.0 : x, n = floor(c + 0.5);
    float f = c - n, r = 1.3333558e-3;

    r = r * f + 9.6181291e-3;
    r = r * f + 5.5504109e-2;
    r = r * f + 2.4022651e-1;
    r = r * f + 6.9314718e-1;
    r = r * f + 1.0;
    return r * intBitsToFloat((int(n) + 127) << 23);
}
