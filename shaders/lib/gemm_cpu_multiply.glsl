// The loop over k of gemm_cpu.comp, as a function: sum[ROWS][CG] = of k_begin ... k_end; col4: this lane's
// first column group. An includer defines its name (MULTIPLY), its texels (A4, B4; FETCH_B reads B4), their LDA,
// LDB, A_COL and B_COL, and K; for a stored B, of form NN with 16 lanes, DECODE in place of B4, FETCH_B, LDB and
// B_COL. It has FORM, LANES, GROUPS, CG, KB, `sum` and OUTSIDE.
#if defined DECODE && (LANES != 16 || KB != 4 || CG != 1)
#error factors are spread over 16 lanes, 4 k and 64 columns
#endif
void MULTIPLY(int row0, int col4, int k_begin, int k_end)
{
    const int lane = int(gl_LocalInvocationID.x);
    const int lda4 = int(LDA) / 4, a_col4 = int(A_COL) / 4;
#ifdef DECODE
    const int last = int(K) - 1; // row of B: read again, times 0, where KB asks for more
#else
    const int ldb4 = int(LDB) / 4, b_col4 = int(B_COL) / 4;
#if FORM != 1
    const int last = (int(K) - 1) * ldb4;
#endif
#endif

    [[unroll]] for (int i = 0; i < ROWS; i++)
        [[unroll]] for (int j = 0; j < CG; j++)
            sum[i][j] = vec4(0);

    for (int k = k_begin; k < k_end; k += KB) {
        vec4 b[KB][CG]; // [k][column group]
#if defined DECODE && defined DQ_SCALES // each factor once: of k = own / 4 and the tile's 16 columns own % 4
        const uint own = gl_SubgroupInvocationID;
        const vec2 factors = dq_factors(uint(min(k + int(own / 4), last)), uint(col4 - lane) + own % 4 * 4);
#endif
#if FORM != 2
        int k4[KB / 4]; // offsets in rows of A (and B) along k
        [[unroll]] for (int q = 0; q < KB; q += 4)
            k4[q / 4] = k + q < int(K) ? (k + q) / 4 : OUTSIDE;
#else
        int a_row[KB];
        [[unroll]] for (int q = 0; q < KB; q++)
            a_row[q] = k + q < int(K) ? (k + q) * lda4 : OUTSIDE;
#endif
#if FORM == 1
        [[unroll]] for (int q = 0; q < KB; q += 4)
            [[unroll]] for (int j = 0; j < CG; j++) {
                vec4 t[4]; // 4 rows of B = 4 columns of C, 4 k each
                [[unroll]] for (int e = 0; e < 4; e++)
                    t[e] = FETCH_B(B4, ((col4 + j) * 4 + e) * ldb4 + b_col4 + k4[q / 4]);
                [[unroll]] for (int e = 0; e < 4; e++)
                    b[q + e][j] = vec4(t[0][e], t[1][e], t[2][e], t[3][e]);
            }
#else
        [[unroll]] for (int q = 0; q < KB; q++)
            [[unroll]] for (int j = 0; j < CG; j++)
#ifdef DECODE
#ifdef DQ_SCALES
                b[q][j] = dq_value(uint(min(k + q, last)), uint(col4 + j),
                                   vec2(subgroupShuffle(factors.x, 4 * q + own / 4),
                                        subgroupShuffle(factors.y, 4 * q + own / 4)));
#else
                b[q][j] = dq(uint(min(k + q, last)), uint(col4 + j));
#endif
#else
                b[q][j] = FETCH_B(B4, min((k + q) * ldb4, last) + b_col4 + col4 + j);
#endif
#endif
#if FORM == 2
        [[unroll]] for (int g = 0; g < GROUPS; g += 4) { // a lane reads 4 rows of C at one k
            vec4 a[KB];
            [[unroll]] for (int q = 0; q < KB; q++)
                a[q] = imageLoad(A4, a_row[q] + a_col4 + (row0 + g * LANES) / 4 + lane);
            [[unroll]] for (uint i = 0; i < 4 * LANES; i++)
                [[unroll]] for (int q = 0; q < KB; q++) {
                    const float s = subgroupShuffle(a[q][i & 3], i >> 2);
                    [[unroll]] for (int j = 0; j < CG; j++)
                        sum[g * LANES + i][j] += s * b[q][j];
                }
        }
#else
        [[unroll]] for (int g = 0; g < GROUPS; g++) { // a lane reads 1 row of C at KB k
            vec4 a[KB / 4];
            [[unroll]] for (int q = 0; q < KB / 4; q++)
                a[q] = imageLoad(A4, (row0 + g * LANES + lane) * lda4 + a_col4 + k4[q]);
            [[unroll]] for (uint i = 0; i < LANES; i++)
                [[unroll]] for (int q = 0; q < KB; q++) {
                    const float s = subgroupShuffle(a[q / 4][q & 3], i);
                    [[unroll]] for (int j = 0; j < CG; j++)
                        sum[g * LANES + i][j] += s * b[q][j];
                }
        }
#endif
    }
}
#undef DECODE
#undef MULTIPLY
#undef A4
#undef B4
#undef FETCH_B
#undef LDA
#undef LDB
#undef A_COL
#undef B_COL
#undef K
