// 2^x for x <= 127, exactly 1 at 0, exactly 0 below -127; a NaN stays one. A relative error of 1e-7;
// the built-in exp2 may be off by 3 + 2 |x| units in the last place.
float exp2_neg(float x)
{
    precise float c = x < -127.0 ? -127.0 : x;
    precise float y = c + 12582912.0; // 1.5 * 2^23: the sum's low bits are round(c)
    precise float n = y - 12582912.0;
    float f = c - n, r = 1.3333558e-3;

    r = r * f + 9.6181291e-3;
    r = r * f + 5.5504109e-2;
    r = r * f + 2.4022651e-1;
    r = r * f + 6.9314718e-1;
    r = r * f + 1.0;
    return r * intBitsToFloat((floatBitsToInt(y) << 23) + 0x3f800000);
}
