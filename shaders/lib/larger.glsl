// The larger of two; a NaN stays one, which max() need not keep.
float larger(float a, float b) { return isnan(a) || a > b ? a : b; }
