// 2^e, e in [-126, 127]: exact, which a driver's exp2 need not be
float power(int e) { return uintBitsToFloat(uint(e + 127) << 23); }
